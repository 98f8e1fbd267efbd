//! A short run: started, stopped, resumed, and compared with one that went through.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{program, succeed, text};

/// The settings of [`quick_run`].
const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/small.toml");

/// The arguments of a run of seconds in `out_dir`: the smallest network on the sample, in batches of 8, with
/// `options` as on a command line.
pub fn quick_run<'a>(out_dir: &'a Path, options: &'a str) -> Vec<&'a str> {
    let mut args = vec!["-c", SMALL, "--device", "cpu", "--out-dir", text(out_dir)];
    args.extend(options.split_whitespace());
    args
}

/// The arguments of a run of 18 steps in `out_dir` that saves a checkpoint after every second one.
pub fn run_with_checkpoints(out_dir: &Path) -> Vec<&str> {
    let options = "--epochs 3 --steps-per-epoch 6 --eval-steps 2 --checkpoint-every 2 --keep 3";
    quick_run(out_dir, options)
}

/// So many epochs that no signal comes too late.
pub const ENDLESS: [&str; 2] = ["--epochs", "100000"];

/// Starts the run in `out_dir` with `more` arguments.
pub fn start(out_dir: &Path, more: &[&str]) -> Child {
    program(&run_with_checkpoints(out_dir))
        .args(more)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn finish(out_dir: &Path, more: &[&str]) {
    succeed(&[&run_with_checkpoints(out_dir), more].concat());
}

/// The checkpoints of a run, oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
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

/// Copies the folder `from` to the new folder `to`.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// How long a test waits for what must come, so that a hang does not last for ever. No machine is so slow or so busy.
pub const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Waits until the run of `child` has a checkpoint.
pub fn wait_for_checkpoint(run: &Path, child: &mut Child) {
    if checkpoints(run).is_empty() {
        wait_for_another_checkpoint(run, child);
    }
}

/// Waits until the run of `child` has a newer checkpoint than now.
pub fn wait_for_another_checkpoint(run: &Path, child: &mut Child) {
    let start = Instant::now();
    let newest = checkpoints(run).pop();
    while checkpoints(run).pop() <= newest {
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        assert!(
            start.elapsed() < PATIENCE,
            "no checkpoint after {PATIENCE:?}"
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

pub fn assert_same_end(run: &Path, reference: &Path) {
    let (run, reference) = (end(run), end(reference));
    assert_eq!(run.history, reference.history);
    assert_eq!(run.result, reference.result);
    assert!(run.tensors == reference.tensors, "some tensor differs");
}

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
