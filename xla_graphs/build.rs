//! Lets this package's tests find the XLA runtime when they run.

mod link_runtime;

use std::env;
use std::path::Path;

fn main() {
    // Without tracing, nothing of this package is linked with the runtime.
    if env::var_os("CARGO_FEATURE_TRACE").is_none() {
        return;
    }
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = env::var_os("XLA_EXTENSION_DIR").unwrap_or_default();
    link_runtime::link_runtime(Path::new(&xla_dir));
}
