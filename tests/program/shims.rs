//! Libraries made of the sources in tests/faults, and the program with one of them preloaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use super::text;

/// Compiles `source` in tests/faults to the shared library `library`.
pub fn compile(compiler: &str, source: &str, library: &Path, flags: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/faults")
        .join(source);
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([text(library), text(&source)])
        .args(flags)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// Stops a program in the middle of writing a file, for as long as the test wants.
pub struct HeldWrite {
    library: PathBuf,
    mark: PathBuf,
    _folder: TempDir,
}

impl HeldWrite {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("held_write.so");
        compile("cc", "held_write.c", &library, &[]);
        Self {
            library,
            mark: folder.path().join("mark"),
            _folder: folder,
        }
    }

    /// Has `command` write `after` files with `name` in their paths as ever, and stop at byte `at` of each of those
    /// behind them.
    pub fn preload(&self, command: &mut Command, name: &str, after: usize, at: u64) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("HELD_NAME", name)
            .env("HELD_AFTER", after.to_string())
            .env("HELD_AT", at.to_string())
            .env("HELD_MARK", &self.mark);
    }

    /// Waits until the program stands still in a write; `false` when it ended before.
    pub fn wait(&self, child: &mut Child) -> bool {
        while !self.mark.exists() {
            if child.try_wait().unwrap().is_some() {
                return self.mark.exists();
            }
            sleep(Duration::from_millis(1));
        }
        true
    }

    /// Lets the program go on, after [`Self::wait`] or after its end.
    pub fn release(&self) {
        fs::remove_file(&self.mark).unwrap();
    }
}
