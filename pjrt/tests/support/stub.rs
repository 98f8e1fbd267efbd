//! The plugin of `stub_plugin.c`, compiled.

use std::fs;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("../stub_plugin.c");

/// Compiles it to the new file `path`, with `oddity`, a macro of its source: `NAME` or `NAME=VALUE`.
pub fn compile(oddity: &str, path: &Path) {
    let include = Path::new(&std::env::var("XLA_EXTENSION_DIR").unwrap()).join("include");
    let source = path.with_extension("c");
    fs::write(&source, SOURCE).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-D", oddity, "-I"])
        .arg(include)
        .arg("-o")
        .args([path, &source])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
