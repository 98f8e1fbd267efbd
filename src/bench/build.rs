//! Which program was measured.

use serde::Serialize;

/// The first keys of every report.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Build {
    pub name: &'static str,
    pub version: &'static str,
    pub git_commit: &'static str,
}

impl Build {
    /// This program.
    pub const THIS: Self = Self {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        git_commit: env!("RESNET_XLA_GIT_COMMIT"),
    };
}
