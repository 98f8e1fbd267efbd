//! Lets this package's tests and benches find the XLA runtime when they run.

#[path = "../xla_graphs/link_runtime.rs"]
mod link_runtime;

use std::env;
use std::path::Path;

fn main() {
    // Without XLA, nothing of this package is linked with the runtime.
    if env::var_os("CARGO_FEATURE_XLA").is_none() {
        return;
    }
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = env::var_os("XLA_EXTENSION_DIR").unwrap_or_default();
    link_runtime::link_runtime(Path::new(&xla_dir));
}
