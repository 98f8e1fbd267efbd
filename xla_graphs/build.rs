//! Lets this package's tests find the XLA runtime when they run.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = env::var("XLA_EXTENSION_DIR").unwrap_or_default();
    let library = Path::new(&xla_dir).join("lib/libxla_extension.so");
    match library.canonicalize() {
        Ok(real_library) => {
            // By the path with the link in it, so that a link to another runtime counts as a change.
            println!("cargo::rerun-if-changed={}", library.display());
            let folder = real_library
                .parent()
                .expect("a file's canonical path has a parent");
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
        }
        Err(error) => println!(
            "cargo::error=no XLA runtime at XLA_EXTENSION_DIR='{xla_dir}' ({}: {error}): run ./setup first",
            library.display()
        ),
    }
}
