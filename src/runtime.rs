//! The XLA runtime that the program is linked with: facts about it, and its settings from outside.

use std::path::PathBuf;

use crate::flags::XLA_FLAGS;

/// The XLA runtime's version, as `./setup` recorded it.
pub const VERSION: &str = env!("RESNET_XLA_RUNTIME");

const DEVICE_COUNT: &str = "--xla_force_host_platform_device_count";
/// XLA ends the process when the devices do not meet for 40 s, which a busy or suspended machine may
/// take.
const PATIENCE: &str = "--xla_cpu_collective_call_terminate_timeout_seconds=3600";

/// Silences XLA's own log, unless the user asked for it with `-vv`. Errors come as results anyway;
/// what is logged as one besides is that the CPU's kernels use the older of two interfaces.
///
/// Call it before the first XLA object is made.
pub fn quiet(verbose: u8) {
    if verbose < 2 {
        xla::set_tf_min_log_level(xla::TfLogLevel::Error);
        xla::set_min_log_level(xla::TfLogLevel::Fatal);
    }
}

/// Has XLA see the CPU as `devices` devices, unless the user's `XLA_FLAGS` already say how many.
///
/// Call it as [`add_xla_flags`] says.
pub fn divide_cpu(devices: usize) {
    let said = std::env::var(XLA_FLAGS).is_ok_and(|flags| flags.contains(DEVICE_COUNT));
    if devices > 1 && !said {
        add_xla_flags(&format!("{DEVICE_COUNT}={devices} {PATIENCE}"));
    }
}

/// Puts `flags` behind those that `XLA_FLAGS` has.
///
/// Call it before the first client is made, and before any thread is started that may read the
/// environment from C.
pub fn add_xla_flags(flags: &str) {
    let before = std::env::var(XLA_FLAGS).unwrap_or_default();
    let all = format!("{before} {flags}");
    // SAFETY: by this function's contract no other thread reads the environment from C meanwhile:
    // the one of `signals` only waits. Rust's own readers take a lock.
    unsafe { std::env::set_var(XLA_FLAGS, all.trim_start()) };
}

/// The file of the XLA library in this process, as the kernel lists it; `None` where that cannot be
/// read.
pub fn library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .find(|path| path.contains("libtensorflow_cc") || path.contains("libxla_extension"))?;
    Some(PathBuf::from(path))
}
