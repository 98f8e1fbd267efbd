//! Compiles `client.cc` with the XLA runtime's headers, and links it with the runtime.

#[path = "../xla_graphs/link_runtime.rs"]
mod link_runtime;

use std::env;
use std::path::PathBuf;

const SOURCE: &str = "src/client.cc";

fn main() {
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    println!("cargo::rerun-if-changed={SOURCE}");
    let xla_dir = PathBuf::from(env::var_os("XLA_EXTENSION_DIR").unwrap_or_default());
    if link_runtime::link_runtime(&xla_dir).is_none() {
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // As in the runtime: some of XLA's classes have other members without it.
        .define("NDEBUG", None)
        .include(xla_dir.join("include"))
        .file(SOURCE)
        .compile("cpu_client");
    let libraries = xla_dir.join("lib");
    println!("cargo::rustc-link-search=native={}", libraries.display());
    println!("cargo::rustc-link-lib=xla_extension");
}
