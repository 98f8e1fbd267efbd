//! Facts about the XLA runtime that the program is linked with.

use std::path::PathBuf;

/// The XLA runtime's version, as `./setup` recorded it.
pub const VERSION: &str = env!("RESNET_XLA_RUNTIME");

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
