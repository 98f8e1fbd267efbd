//! The folder of this user in which things are kept that can be made again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names the folder; that of `./setup` too.
pub const VARIABLE: &str = "RESNET_XLA_CACHE";

/// The folder, which need not be there yet; `None` if the environment names neither it nor a home.
pub fn folder() -> Option<PathBuf> {
    if let Some(dir) = variable(VARIABLE) {
        return Some(PathBuf::from(dir));
    }
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        // The standard has a relative one count as none.
        .filter(|cache| cache.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(cache.join("resnet-xla"))
}

/// The value of an environment variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
