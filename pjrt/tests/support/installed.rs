//! The plugins that `./setup` puts in place on request.

use std::path::{Path, PathBuf};

/// The plugin `file` of `./setup SETUP`; `None`, with the reason printed, where it is not.
pub fn installed(file: &str, setup: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("RESNET_XLA_CACHE").map(PathBuf::from);
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))
        .map(|folder| folder.join("resnet-xla"));
    let Some(cache) = cache.or(user) else {
        println!(
            "skipped: no RESNET_XLA_CACHE, XDG_CACHE_HOME or HOME says where ./setup {setup} puts {file}"
        );
        return None;
    };
    let plugin = cache.join("plugins").join(file);
    if !plugin.is_file() {
        println!(
            "skipped: no {}; ./setup {setup} puts it there",
            plugin.display()
        );
        return None;
    }
    Some(plugin)
}
