//! File systems that lack what a local disk has: locks, and the syncing of folders.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::runs::{checkpoints, quick_run};
use program::{program, text};
use tempfile::TempDir;

const EIO: i32 = 5;
const EBADF: i32 = 9;
const EINVAL: i32 = 22;
const ENOLCK: i32 = 37;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

const NO_LOCKS: &str = "this file system has no locks";

/// A file system on which some calls fail, and a folder on it.
struct PoorFileSystem {
    folder: TempDir,
}

impl PoorFileSystem {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("shim.so"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/poor_file_system.c"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program with the error numbers that `faults` names.
    fn run(&self, args: &[&str], faults: &[(&str, i32)]) -> Output {
        let mut command = program(args);
        command.env("LD_PRELOAD", self.path("shim.so"));
        for (variable, number) in faults {
            command.env(variable, number.to_string());
        }
        command.output().unwrap()
    }

    /// Trains for two steps in a folder of its own, and saves.
    fn train(&self, faults: &[(&str, i32)]) -> (PathBuf, Output) {
        let run = self.path(&format!("run{faults:?}"));
        let output = self.run(&quick_run(&run, "--max-steps 2 --eval-steps 1"), faults);
        (run, output)
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn training_goes_on_with_a_warning_where_files_cannot_be_locked_and_folders_not_synced() {
    let disk = PoorFileSystem::new();
    for (lock, sync) in [(ENOLCK, EINVAL), (ENOSYS, EOPNOTSUPP), (EOPNOTSUPP, EBADF)] {
        let (run, output) = disk.train(&[("FLOCK_ERROR", lock), ("FOLDER_SYNC_ERROR", sync)]);
        let message = errors(&output);
        assert!(output.status.success(), "{lock}, {sync}: {message}");
        assert_eq!(message.matches(NO_LOCKS).count(), 1, "{message}");
        assert!(message.contains("run.lock"), "{message}");
        assert_eq!(checkpoints(&run).len(), 1);
    }
}

#[test]
fn a_lock_that_fails_for_another_reason_ends_the_run() {
    let disk = PoorFileSystem::new();
    let (_, output) = disk.train(&[("FLOCK_ERROR", EIO)]);
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("Input/output error"), "{message}");
}

#[test]
fn a_folder_with_a_broken_disk_and_a_file_that_cannot_be_synced_are_errors() {
    let disk = PoorFileSystem::new();
    for (fault, reason) in [
        (("FOLDER_SYNC_ERROR", EIO), "Input/output error"),
        (("FILE_SYNC_ERROR", EINVAL), "Invalid argument"),
    ] {
        let (_, output) = disk.train(&[fault]);
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {message}");
        assert!(message.contains("cannot write"), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn fetch_goes_on_with_a_warning_where_files_cannot_be_locked() {
    let disk = PoorFileSystem::new();
    let data = disk.path("data");
    fs::create_dir(&data).unwrap();
    // A file of the wrong size is looked at once the lock is there, and ends it before anything is downloaded.
    fs::write(data.join("test_batch.bin"), "short").unwrap();
    let output = disk.run(
        &["fetch", "--data-dir", text(&data)],
        &[("FLOCK_ERROR", ENOLCK)],
    );
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert_eq!(message.matches(NO_LOCKS).count(), 1, "{message}");
    assert!(message.contains("wrong size"), "{message}");
}
