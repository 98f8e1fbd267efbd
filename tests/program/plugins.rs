//! The plugins that `./setup` puts in place on request.

#[path = "../../pjrt/tests/support/installed.rs"]
mod installed;

use std::path::{Path, PathBuf};

use installed::installed;
use resnet_xla::device::hardware;
use resnet_xla::device::plugin_kind::PluginKind;

/// The plugin of `./setup cpu-plugin`; `None`, with the reason printed, where it is not.
pub fn cpu_plugin() -> Option<PathBuf> {
    installed("cpu/libpjrt_cpu.so", "cpu-plugin")
}

/// The plugin of `./setup tpu`; `None`, with the reason printed, where it is not.
pub fn libtpu() -> Option<PathBuf> {
    installed("tpu/libtpu.so", "tpu")
}

/// Whether this machine has an accelerator of `kind`; prints that a test of its absence is skipped.
pub fn has_hardware(kind: &PluginKind) -> bool {
    // Variables that say so are no part of the tests' programs.
    let files = hardware::signs(kind, Path::new("/"));
    let found = files.iter().find(|sign| !sign.starts_with("variable"));
    if let Some(sign) = found {
        println!("skipped: this machine has a {} ({sign})", kind.device());
    }
    found.is_some()
}
