//! Tries `XLA_FLAGS` before XLA reads them: XLA ends the process at a flag that it does not know.

use std::env;
use std::path::Path;

use crate::device::error::DeviceError;
use crate::device::plugin_kind::PluginKind;
use crate::system::files::{Disk, Storage};
use crate::system::rehearsal;
use pjrt::{Plugin, Program};

/// The variable that every copy of XLA reads, the runtime's and each plugin's.
pub const XLA_FLAGS: &str = "XLA_FLAGS";

/// The source file that XLA names when it rejects the flags.
const READER: &str = "parse_flags_from_env.cc";

/// Longer files of flags are not read.
const FILE_LIMIT: u64 = 1 << 20;

/// The content of the file that a variable of flags with this `value` names: XLA takes a value that does not begin with a
/// dash for the file that its flags are in. `None` where it names none, or one that cannot be read.
pub fn in_file(value: &str) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    if value.is_empty() || value.starts_with('-') {
        return None;
    }
    Disk.read(Path::new(value), FILE_LIMIT).ok()
}

/// The smallest program.
const ONE: &[u8] = b"func.func @main() -> tensor<f32> {
  %one = stablehlo.constant dense<1.0> : tensor<f32>
  return %one : tensor<f32>
}";

/// Checks that the plugin at `path` accepts the flags. Anything else that is wrong with it shows when
/// it is loaded.
///
/// # Errors
/// [`DeviceError::Flags`] when it does not.
pub fn check_plugin(kind: &PluginKind, path: &Path) -> Result<(), DeviceError> {
    check(&path.display().to_string(), || {
        // An error is not reported here: the load that follows meets it again.
        let _ = match kind {
            PluginKind::Tpu => have_libtpu_read_flags(path),
            _ => have_plugin_read_flags(path),
        };
    })
}

/// libtpu reads the flags when it first compiles.
fn have_libtpu_read_flags(path: &Path) -> anyhow::Result<()> {
    pjrt::keep_libtpu_offline();
    let topology = Plugin::load(path)?.topology("v5e:2x2", &[])?;
    topology.compile(Program::Mlir(ONE), &pjrt::compile_options(1))?;
    Ok(())
}

/// Other plugins read the flags when they open their devices.
fn have_plugin_read_flags(path: &Path) -> anyhow::Result<()> {
    Plugin::load(path)?.client(&[])?;
    Ok(())
}

/// Checks that what has `read` read the flags, called `by` in messages, accepts them.
///
/// # Errors
/// [`DeviceError::Flags`] when it does not.
pub fn check(by: &str, read: impl FnOnce()) -> Result<(), DeviceError> {
    let flags = env::var(XLA_FLAGS).unwrap_or_default();
    if flags.trim().is_empty() {
        return Ok(());
    }
    let words = rehearsal::last_words(read).unwrap_or_else(|error| {
        log::debug!("cannot try {XLA_FLAGS} in a process of its own: {error}");
        None
    });
    match words.as_deref().and_then(complaint) {
        Some(complaint) => Err(DeviceError::Flags {
            flags,
            by: by.to_owned(),
            complaint: complaint.to_owned(),
        }),
        None => Ok(()),
    }
}

/// What XLA says is wrong with the flags, if its last words are about them.
fn complaint(words: &str) -> Option<&str> {
    let line = words.lines().find(|line| line.contains(READER))?;
    line.split_once("] ").map(|(_, complaint)| complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_flags_is_told_from_other_last_words() {
        // As XLA prints them.
        let unknown = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n\
            F0000 00:00:1795516608.870214    7011 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS: --xla_no=1\n";
        assert_eq!(
            complaint(unknown),
            Some("Unknown flag in XLA_FLAGS: --xla_no=1")
        );
        assert_eq!(complaint("Segmentation fault"), None);
    }
}
