//! Faults of the machine, done for real: each ends in an error that says what to do, and loses
//! nothing that was saved.

mod program;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use program::plugins::cpu_plugin;
use program::runs::{PATIENCE, assert_same_end, checkpoints, finish, run_with_checkpoints};
use program::shims::compile;
use program::{fail, program, program_as_shipped, take_over, text};
use tempfile::TempDir;

/// A run that nothing happened to.
static REFERENCE: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    finish(&folder.path().join("run"), &[]);
    folder
});

/// The beginning of the run of [`REFERENCE`], in `out_dir`: four steps, two checkpoints.
fn begin(out_dir: &Path) {
    finish(out_dir, &["--max-steps", "4"]);
}

/// The command that resumes the run in `out_dir` up to its end.
fn to_the_end(out_dir: &Path) -> Command {
    program(&["--resume", "--max-steps", "18", "--out-dir", text(out_dir)])
}

fn assert_ends_as_the_reference(out_dir: &Path) {
    let output = to_the_end(out_dir).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_same_end(out_dir, &REFERENCE.path().join("run"));
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A small file system of its own, for as long as it lives.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, with the reason printed, where this process may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            "size=16m",
            "tmpfs",
            text(folder.path()),
        ]);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                println!("no tmpfs of our own: {}", errors(&output).trim());
                None
            }
            Err(error) => {
                println!("no tmpfs of our own: cannot run mount: {error}");
                None
            }
        }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Leaves `free` bytes.
    fn fill_up_to(&self, free: u64) {
        let df = Command::new("df")
            .args(["--block-size=1", "--output=avail", text(self.folder.path())])
            .output();
        let df = String::from_utf8(df.unwrap().stdout).unwrap();
        let available: u64 = df.lines().nth(1).unwrap().trim().parse().unwrap();
        let mut filler = fs::File::create(self.folder.path().join("filler")).unwrap();
        io::copy(&mut io::repeat(1).take(available - free), &mut filler).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.folder.path().join("filler")).unwrap();
    }

    fn remount(&self, mode: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{mode}"), text(self.folder.path())]);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l", text(self.folder.path())])
            .status();
    }
}

#[test]
fn a_full_disk_ends_the_run_with_an_error_and_leaves_what_was_saved() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: the test with a limit on the size of files needs no mount");
        return;
    };
    let run = disk.run();
    begin(&run);
    let saved = checkpoints(&run);
    // A checkpoint has 1 MB: half of it fits.
    for free in [500_000, 0] {
        disk.fill_up_to(free);
        let output = to_the_end(&run).output().unwrap();
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("No space left on device"), "{message}");
        assert!(message.contains("cannot write"), "{message}");
        assert_eq!(checkpoints(&run), saved, "{message}");
        disk.empty();
    }
    assert_ends_as_the_reference(&run);
}

#[test]
fn a_limit_on_the_size_of_files_ends_the_run_with_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    begin(&run);
    let saved = checkpoints(&run);
    // 512 blocks of 1 KiB. Without the trap the system kills the process instead.
    let limited = "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\"";
    let whole = to_the_end(&run);
    let mut bash = Command::new("bash");
    bash.args(["-c", limited]);
    take_over(&mut bash, &whole);
    let output = bash.output().unwrap();
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("step-00000006.safetensors"), "{message}");
    assert!(message.contains("File too large"), "{message}");
    assert_eq!(checkpoints(&run), saved);
    assert_ends_as_the_reference(&run);
}

#[test]
fn a_read_only_folder_is_refused_before_anything_compiles() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no file system to make read-only");
        return;
    };
    let run = disk.run();
    begin(&run);
    disk.remount("ro");
    let output = to_the_end(&run).output().unwrap();
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("Read-only file system"), "{message}");
    assert!(message.contains("--out-dir"), "{message}");
    assert!(!message.contains("compil"), "{message}");
    disk.remount("rw");
    assert_ends_as_the_reference(&run);
}

#[test]
fn data_in_a_folder_that_can_only_be_read_are_fetched_without_a_picture() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no file system to make read-only");
        return;
    };
    disk.remount("ro");
    let folder = text(disk.folder.path());
    let output = program(&["fetch", "--dataset", "sample", "--data-dir", folder]).output();
    let output = output.unwrap();
    let message = errors(&output);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("Read-only file system"), "{message}");
    assert!(message.contains("first_ten.png"), "{message}");
}

#[test]
fn links_planted_in_the_run_folder_lead_nothing_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (run, outside) = (folder.path().join("run"), folder.path().join("outside"));
    begin(&run);
    fs::create_dir(&outside).unwrap();
    let mut planted = Vec::new();
    for name in [
        "config.toml",
        "env.json",
        "history.csv",
        "result.json",
        "report.html",
        "plots/loss.png",
        "plots/accuracy.svg",
        "checkpoints/step-00000004.safetensors",
        // Not there yet: the run is about to write it.
        "checkpoints/step-00000006.safetensors",
    ] {
        let target = outside.join(planted.len().to_string());
        let path = run.join(name);
        if fs::rename(&path, &target).is_err() {
            fs::write(&target, "precious").unwrap();
        }
        symlink(&target, &path).unwrap();
        planted.push((name, fs::read(&target).unwrap(), target));
    }
    // The newest checkpoint is no checkpoint: the one before it is taken.
    assert_ends_as_the_reference(&run);
    for (name, before, target) in planted {
        assert!(fs::read(target).unwrap() == before, "{name} was followed");
    }
    for name in ["train.log", "run.lock"] {
        let target = outside.join(name);
        fs::rename(run.join(name), &target).unwrap();
        symlink(&target, run.join(name)).unwrap();
        let before = fs::read(&target).unwrap();
        let output = to_the_end(&run).output().unwrap();
        assert!(!output.status.success());
        assert!(errors(&output).contains(name), "{}", errors(&output));
        assert!(fs::read(&target).unwrap() == before, "{name} was followed");
        fs::remove_file(run.join(name)).unwrap();
    }
}

#[test]
fn a_clock_that_goes_backwards_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (run, clock) = (folder.path().join("run"), folder.path().join("clock.so"));
    compile("cc", "backward_clock.c", &clock, &[]);
    let mut first = program(&run_with_checkpoints(&run));
    first.args(["--max-steps", "4"]);
    for mut command in [first, to_the_end(&run)] {
        let output = command.env("LD_PRELOAD", &clock).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
    }
    assert_same_end(&run, &REFERENCE.path().join("run"));
    // The program did see such a clock: both files of events are older than this test.
    let events = fs::read_dir(run.join("events")).unwrap();
    let seconds: Vec<u64> = events
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.split('.').nth(3).unwrap().parse().unwrap()
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(seconds.len(), 2);
    assert!(
        seconds
            .iter()
            .all(|seconds| seconds + 3600 <= now.as_secs())
    );
}

#[test]
fn a_disk_that_does_not_answer_holds_up_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let (run, disk) = (folder.path().join("run"), folder.path().join("disk.so"));
    compile("cc", "held_disk.c", &disk, &[]);
    let held = folder.path().join("held");
    fs::write(&held, "").unwrap();
    let mut command = program(&run_with_checkpoints(&run));
    command.args(["--checkpoint-every", "1"]);
    command.env("LD_PRELOAD", &disk).env("HELD_DISK", &held);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // Twelve steps, each with a checkpoint that cannot be written.
    wait_for_epochs(&run, 2, &mut child);
    assert!(checkpoints(&run).is_empty());
    fs::remove_file(&held).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("the disk is slow"));
    assert_same_end(&run, &REFERENCE.path().join("run"));
}

/// Waits until `epochs` epochs are in the run's history.
fn wait_for_epochs(run: &Path, epochs: usize, child: &mut Child) {
    let start = Instant::now();
    loop {
        let rows = fs::read_to_string(run.join("history.csv")).unwrap_or_default();
        if rows.lines().count() > epochs {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        assert!(
            start.elapsed() < PATIENCE,
            "no {epochs} epochs after {PATIENCE:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_data_file_cut_short_is_refused_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for index in 1..=5 {
        let file = fs::File::create(data.join(format!("data_batch_{index}.bin"))).unwrap();
        file.set_len(30_729_999).unwrap();
    }
    fs::File::create(data.join("test_batch.bin")).unwrap();
    let run = folder.path().join("run");
    let message = fail(&["--data-dir", text(&data), "--out-dir", text(&run)], 3);
    for part in ["data_batch_1.bin", "30730000", "30729999"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
}

#[test]
fn a_device_lost_in_the_middle_of_a_step_ends_the_run_and_a_resumed_one_ends_the_same() {
    let Some(plugin) = cpu_plugin() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let faulty = folder.path().join("faulty_pjrt.so");
    let include = Path::new(&std::env::var("XLA_EXTENSION_DIR").unwrap()).join("include");
    compile(
        "c++",
        "faulty_plugin.cc",
        &faulty,
        &["-std=c++17", "-I", text(&include)],
    );
    let on_plugin = |run: &Path, more: &[&str]| {
        let mut command = program_as_shipped(&run_with_checkpoints(run));
        command.args(["--plugin", text(&faulty)]).args(more);
        command.env("REAL_PLUGIN", &plugin);
        command
    };
    let succeed = |run: &Path, more: &[&str]| {
        let output = on_plugin(run, more).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
    };
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    succeed(&reference, &[]);
    succeed(&run, &["--max-steps", "4"]);
    let to_the_end = ["--resume", "--max-steps", "18"];
    // The second step of the process, and the third thing read: its first checkpoint.
    for (variable, at) in [("LOST_AT_EXECUTION", "2"), ("LOST_AT_READ", "3")] {
        let output = on_plugin(&run, &to_the_end).env(variable, at).output();
        let output = output.unwrap();
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("the device was lost"), "{message}");
        assert!(!run.join("result.json").exists());
    }
    succeed(&run, &to_the_end);
    assert_same_end(&run, &reference);
}
