//! A run that was stopped, however roughly, ends as the run that never was.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use program::{fail, program, succeed, text};
use serde_json::Value;

/// 3 epochs of 6 steps, a checkpoint every 2 steps.
const RUN: [&str; 15] = [
    "--preset",
    "quick",
    "--device",
    "cpu",
    "--batch-size",
    "8",
    "--epochs",
    "3",
    "--steps-per-epoch",
    "6",
    "--eval-steps",
    "2",
    "--checkpoint-every",
    "2",
    "--keep=3",
];

/// Starts the run in `out_dir` with `more` arguments.
fn start(out_dir: &Path, more: &[&str]) -> Child {
    let mut command = program(&RUN);
    command.args(["--out-dir", text(out_dir)]).args(more);
    command
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn finish(out_dir: &Path, more: &[&str]) {
    let mut args = RUN.to_vec();
    args.extend(["--out-dir", text(out_dir)]);
    args.extend(more);
    succeed(&args);
}

fn resume(out_dir: &Path) {
    succeed(&["--resume", "--out-dir", text(out_dir)]);
}

/// The checkpoints of a run, oldest first.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    paths
}

/// Waits until the run has a checkpoint.
fn wait_for_checkpoint(run: &Path) {
    let start = Instant::now();
    while checkpoints(run).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no checkpoint after two minutes"
        );
        sleep(Duration::from_millis(5));
    }
}

/// What must not depend on interruptions: tensors, and history and result without their timings.
#[derive(PartialEq)]
struct End {
    tensors: Vec<(String, Vec<u8>)>,
    history: Vec<Vec<String>>,
    result: Vec<Value>,
}

fn end(run: &Path) -> End {
    let bytes = fs::read(checkpoints(run).last().unwrap()).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect();
    tensors.sort();
    let history = fs::read_to_string(run.join("history.csv")).unwrap();
    // The columns after the learning rate are timings.
    let history = history
        .lines()
        .map(|row| row.split(',').take(6).map(str::to_owned).collect())
        .collect();
    let result: Value =
        serde_json::from_str(&fs::read_to_string(run.join("result.json")).unwrap()).unwrap();
    let keys = ["loss", "acc", "val_loss", "val_acc", "epochs", "steps"];
    End {
        tensors,
        history,
        result: keys.map(|key| result[key].clone()).to_vec(),
    }
}

fn assert_same_end(run: &Path, reference: &Path) {
    let (run, reference) = (end(run), end(reference));
    assert_eq!(run.history, reference.history);
    assert_eq!(run.result, reference.result);
    assert!(run.tensors == reference.tensors, "some tensor differs");
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn killed_at_any_moment_it_ends_bit_for_bit_as_if_it_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    finish(&reference, &[]);
    for (round, delay_ms) in [0, 40, 130, 400].into_iter().enumerate() {
        let run = folder.path().join(format!("killed{round}"));
        let mut child = start(&run, &[]);
        wait_for_checkpoint(&run);
        sleep(Duration::from_millis(delay_ms));
        signal(&child, "KILL");
        child.wait().unwrap();
        // The second kill hits a resumed run.
        let mut child = start(&run, &["--resume"]);
        sleep(Duration::from_millis(1500 + delay_ms));
        signal(&child, "KILL");
        child.wait().unwrap();
        resume(&run);
        assert_same_end(&run, &reference);
    }
}

#[test]
fn both_signals_save_and_end_with_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    finish(&reference, &["--epochs", "40"]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let run = folder.path().join(name);
        let mut child = start(&run, &["--epochs", "40", "--checkpoint-every", "1000000"]);
        wait_for_checkpoint(&run);
        signal(&child, name);
        let sent = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(sent.elapsed() < Duration::from_secs(10));
        assert!(!run.join("result.json").exists());
        resume(&run);
        assert_same_end(&run, &reference);
    }
}

#[test]
fn a_run_cut_short_by_max_steps_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    finish(&reference, &[]);
    finish(&run, &["--max-steps", "9"]);
    succeed(&["--resume", "--max-steps", "18", "--out-dir", text(&run)]);
    assert_same_end(&run, &reference);
}

#[test]
fn a_finished_run_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    finish(&run, &["--max-steps", "3"]);
    let history = fs::read(run.join("history.csv")).unwrap();
    resume(&run);
    assert_eq!(fs::read(run.join("history.csv")).unwrap(), history);
    assert!(run.join("result.json").exists());
}

#[test]
fn there_must_be_something_to_resume_and_its_settings_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let message = fail(&["--resume", "--out-dir", text(&run)], 2);
    assert!(message.contains("holds no checkpoint"), "{message}");
    finish(&run, &["--max-steps", "1"]);
    for (option, value) in [("--lr", "0.3"), ("--depth", "20"), ("--seed", "9")] {
        let message = fail(&["--resume", "--out-dir", text(&run), option, value], 2);
        let field = format!("`{}`", option.trim_start_matches('-'));
        assert!(
            message.contains(&field) && message.contains(value),
            "{message}"
        );
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    finish(&reference, &[]);
    finish(&run, &["--max-steps", "10"]);
    let all = checkpoints(&run);
    let newest = all.last().unwrap();
    let whole = fs::read(newest).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..5], &[], &flipped] {
        let copy = folder.path().join("copy");
        copy_run(&run, &copy);
        let path = copy.join("checkpoints").join(newest.file_name().unwrap());
        fs::write(&path, damaged).unwrap();
        let output = program(&["--resume", "--max-steps", "18", "--out-dir", text(&copy)])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let name = newest.file_name().unwrap().to_str().unwrap();
        assert!(errors.contains(name), "{errors}");
        assert_same_end(&copy, &reference);
        fs::remove_dir_all(&copy).unwrap();
    }
    // With none left whole, the run does not start afresh.
    for path in &all {
        fs::write(path, "damaged").unwrap();
    }
    fail(
        &["--resume", "--max-steps", "18", "--out-dir", text(&run)],
        3,
    );
}

fn copy_run(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("checkpoints")).unwrap();
    for file in ["config.toml", "history.csv", "result.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    for path in checkpoints(from) {
        fs::copy(
            &path,
            to.join("checkpoints").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_with_the_pid() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut child = start(&run, &["--epochs", "1000"]);
    wait_for_checkpoint(&run);
    for mode in ["--resume", "--overwrite"] {
        let message = fail(&["--preset", "quick", mode, "--out-dir", text(&run)], 2);
        assert!(
            message.contains(&format!("process {}", child.id())),
            "{message}"
        );
    }
    signal(&child, "KILL");
    child.wait().unwrap();
    finish(&run, &["--overwrite", "--max-steps", "1"]);
}
