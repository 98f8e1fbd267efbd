//! The build without the XLA runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that `scripts/small_build.sh` built; `None`, with the reason printed, where it did not.
pub fn small() -> Option<PathBuf> {
    // The full one is target/release/resnet-xla.
    let full = Path::new(env!("CARGO_BIN_EXE_resnet-xla"));
    let target = full.ancestors().nth(2).unwrap();
    let built = fs::read_to_string(target.join("small/commit")).unwrap_or_default();
    if !built.is_empty() && built == commit() {
        return Some(target.join("small/resnet-xla"));
    }
    println!(
        "no program of this commit in {}; scripts/small_build.sh makes it",
        target.join("small").display()
    );
    None
}

/// What git calls the commit that is checked out; nothing where it says none.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]);
    let output = git.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}
