//! Starts a plugin, which may crash, and says what was wrong.

use std::path::Path;

use crate::device::{DeviceError, plugin_file, tpu_holders};
use crate::system::{signals, text};

/// The exit code when a plugin crashes the process: the one for a device that cannot be used.
pub const CRASH_EXIT_CODE: u8 = 4;

/// Checks the plugin file at `path`, then has `start` start it. Whatever goes wrong meanwhile, a crash
/// included, is blamed on the plugin.
pub fn start_plugin<T>(
    path: &Path,
    start: impl FnOnce() -> Result<T, String>,
) -> Result<T, DeviceError> {
    let _crash = signals::blame_crashes_on(
        &format!(
            "error: the PJRT plugin {} crashed while it started; try another version of it, or run with \
         --device cpu",
            text::shown(path)
        ),
        CRASH_EXIT_CODE,
    );
    plugin_file::check(path).map_err(|reason| DeviceError::PluginFile {
        path: path.into(),
        reason,
    })?;
    start().map_err(|reason| plugin_error(path, reason))
}

/// The error for a plugin that did not start, with the reason that it gave.
fn plugin_error(path: &Path, reason: String) -> DeviceError {
    // libtpu names its lock file or, failing that, the device that it cannot open.
    const BUSY: [&str; 3] = [
        "libtpu_lockfile",
        "already in use",
        "Device or resource busy",
    ];
    let holders = tpu_holders::tpu_holders(Path::new("/"));
    if BUSY.iter().any(|text| reason.contains(text)) && !holders.is_empty() {
        return DeviceError::Held {
            holders: holders.join(", "),
        };
    }
    DeviceError::Plugin {
        path: path.into(),
        reason,
    }
}
