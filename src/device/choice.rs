//! Which devices a user can ask for, and which kinds the program treats differently.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which device to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The best that is there
    Auto,
    Tpu,
    Gpu,
    Cpu,
}

/// The kinds of device that the program treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    Tpu,
    Gpu,
    /// The CPU of the XLA runtime itself
    Cpu,
    /// A CPU behind a plugin that does not run the program's own kernels
    CpuPlugin,
    /// A CPU behind a plugin that runs them
    #[value(skip)]
    CpuPluginWithKernels,
    /// A plugin of another platform
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Tpu => "tpu",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::CpuPlugin | Self::CpuPluginWithKernels => "cpu-plugin",
            Self::Other => "other",
        })
    }
}
