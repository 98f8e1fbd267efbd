//! The XLA runtime that the program is linked with: facts about it, and its settings from outside.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::embedded;
use crate::device::flags::{self, XLA_FLAGS};

/// The XLA runtime's version, as `./setup` recorded it.
pub const VERSION: &str = env!("RESNET_XLA_RUNTIME");

const DEVICE_COUNT: &str = "--xla_force_host_platform_device_count";
/// By default XLA ends the process when the devices take more than 40 s to meet, as they may on a busy or
/// suspended machine.
const COLLECTIVE_TIMEOUT: &str = "--xla_cpu_collective_call_terminate_timeout_seconds=3600";

/// How much XLA and plugins log, in the user's environment: 0 (everything) to 3 (nothing).
const LOG_LEVEL: &str = "TF_CPP_MIN_LOG_LEVEL";
/// Whether nobody asked for the logs.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Silences XLA's own log, and plugins below their errors, unless the user asked for more with `-vv` or said in the
/// environment how much to log. Errors are returned anyway.
///
/// The rules of [`add_xla_flags`] apply; call it before the first XLA object is made.
pub fn quiet(verbose: u8) {
    if let Some(said) = env::var_os(LOG_LEVEL) {
        if let Some(level) = said.to_str().and_then(log_level) {
            embedded::set_log_level(level);
        }
    } else if verbose < 2 {
        set_variable(LOG_LEVEL, "2");
        embedded::set_log_level(3);
        QUIET.store(true, Ordering::Relaxed);
    }
}

/// Silences the errors too, where [`quiet`] silenced the rest, for a CPU: it has none of a run, but says of a compiled
/// program which is loaded that it names preferences of the compiler as features of the processor.
///
/// The rules of [`add_xla_flags`] apply; call it before the CPU's plugin is loaded.
pub fn silence_cpu() {
    if QUIET.load(Ordering::Relaxed) {
        set_variable(LOG_LEVEL, "3");
    }
}

/// What the value `text` of [`LOG_LEVEL`] means.
fn log_level(text: &str) -> Option<u8> {
    text.trim().parse().ok().filter(|level| *level <= 3)
}

/// Makes XLA see the CPU as `devices` devices, unless the user's `XLA_FLAGS` already set a number.
///
/// The rules of [`add_xla_flags`] apply.
pub fn divide_cpu(devices: usize) {
    if devices > 1 && !said_flags().contains(DEVICE_COUNT) {
        add_xla_flags(&format!("{DEVICE_COUNT}={devices} {COLLECTIVE_TIMEOUT}"));
    }
}

/// The flags in `XLA_FLAGS`, or in the file that it names: XLA reads either, not both.
fn said_flags() -> String {
    let value = env::var(XLA_FLAGS).unwrap_or_default();
    let in_file = flags::in_file(&value).and_then(|content| String::from_utf8(content).ok());
    in_file.unwrap_or(value)
}

/// Appends `flags` to those in `XLA_FLAGS`.
///
/// Call it before the first client is made, and before starting any thread that may read the
/// environment from C.
pub fn add_xla_flags(flags: &str) {
    let all = format!("{} {flags}", said_flags());
    set_variable(XLA_FLAGS, all.trim_start());
}

/// Sets a variable of the environment; the rules of [`add_xla_flags`] apply.
fn set_variable(name: &str, value: &str) {
    // SAFETY: by those rules no other thread reads the environment from C meanwhile: the one of `signals` only waits.
    // Rust's own readers take a lock.
    unsafe { env::set_var(name, value) };
}

/// The file of the XLA library in this process, according to the kernel; `None` if that cannot be
/// read.
pub fn library() -> Option<PathBuf> {
    library_in(&std::fs::read("/proc/self/maps").ok()?)
}

/// The XLA library's path in `maps`, the text of a process's `maps` file.
fn library_in(maps: &[u8]) -> Option<PathBuf> {
    // 7f1200000000-7f1200021000 r-xp 00000000 fe:01 1051 /lib/libc.so.6
    let paths = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let start = line.iter().position(|byte| *byte == b'/')?;
        Some(Path::new(OsStr::from_bytes(&line[start..])))
    });
    let is_xla = |path: &&Path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.starts_with(b"libtensorflow_cc") || name.starts_with(b"libxla_extension")
    };
    paths.into_iter().find(is_xla).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_whatever_its_folder_is_called() {
        for folder in [
            "/opt/xla",
            "/a dir, with 'quotes' #1 é/100% $x",
            "/libtensorflow_cc/lib",
        ] {
            let path = format!("{folder}/libtensorflow_cc.so.2");
            let maps = format!(
                "7f1200000000-7f1200021000 rw-p 00000000 00:00 0 \n\
                 7f1200030000-7f1200040000 r-xp 00000000 fe:01 1051                       {folder}/libc.so.6\n\
                 7f1200050000-7f1200060000 r-xp 00000000 fe:01 1052                       {path}\n\
                 7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]\n"
            );
            assert_eq!(library_in(maps.as_bytes()), Some(PathBuf::from(path)));
        }
    }

    #[test]
    fn a_folder_called_like_the_library_is_not_taken_for_it() {
        let maps =
            "7f1200030000-7f1200040000 r-xp 00000000 fe:01 1051 /libxla_extension/libc.so.6\n";
        assert_eq!(library_in(maps.as_bytes()), None);
    }
}
