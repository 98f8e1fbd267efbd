//! The plugins that `./setup` puts in place on request.

use std::path::{Path, PathBuf};

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

fn installed(file: &str, setup: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("RESNET_XLA_CACHE").map(PathBuf::from);
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))
        .map(|folder| folder.join("resnet-xla"));
    let plugin = cache.or(user)?.join("plugins").join(file);
    if !plugin.is_file() {
        println!(
            "skipped: no {}; ./setup {setup} puts it there",
            plugin.display()
        );
        return None;
    }
    Some(plugin)
}
