//! A run that an earlier program left goes on, is evaluated and classifies as it did there.
//!
//! `tests/fixtures/run-before-rooms` was made by the program of commit 68cf607, with `env.json`'s command line. Its
//! `predictions.json` is what that program's `predict --index 0,1,2,3 --json` printed for the checkpoint.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::{checkpoints, copy_folder};
use program::{succeed, text};
use serde_json::Value;
use tempfile::TempDir;

/// How far apart the logits of two ways of compiling may be: as a share of the largest, the rounding of sums of 1,152
/// terms, the longest of depth 11 (a 3x3 convolution of 128 channels), in each of 11 layers. The largest of this
/// network's logits for these images is 5.4.
const LOGITS: f64 = 6.0 * 11.0 * 1152.0 * f32::EPSILON as f64 / 2.0;
/// A loss, and the logarithm of a probability, is the difference of a logit and of the logarithm of the sum of their
/// exponentials, which moves no further than the logits do.
const LOSS: f64 = 2.0 * LOGITS;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run-before-rooms")
}

/// A copy of the old run.
fn old_run() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy_folder(&fixture(), &run);
    (folder, run)
}

fn rows(run: &Path) -> Vec<Vec<String>> {
    let history = fs::read_to_string(run.join("history.csv")).unwrap();
    let rows = history.lines().skip(1);
    rows.map(|row| row.split(',').map(str::to_owned).collect())
        .collect()
}

fn on_the_cpu(run: &Path, command: &str) -> String {
    let mut args: Vec<&str> = command.split(' ').collect();
    args.extend(["--device", "cpu", "--checkpoint", text(run)]);
    succeed(&args)
}

#[test]
fn an_old_run_goes_on_to_a_later_end_and_keeps_its_rows() {
    let (_folder, run) = old_run();
    succeed(&["--resume", "--out-dir", text(&run), "--epochs", "3"]);
    let (old, new) = (rows(&fixture()), rows(&run));
    assert_eq!(new[..2], old[..]);
    assert_eq!((new.len(), new[2][0].as_str()), (3, "2"));
    let newest = checkpoints(&run).pop().unwrap();
    assert!(newest.ends_with("step-00000009.safetensors"), "{newest:?}");
    let result = fs::read_to_string(run.join("result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(
        (&result["steps"], &result["epochs"]),
        (&9.into(), &3.into())
    );
}

#[test]
fn an_old_checkpoint_is_evaluated_to_the_loss_that_its_history_has() {
    let printed = on_the_cpu(&fixture(), "eval --steps 1 --batch-size 8 --json");
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let expected: f64 = rows(&fixture())[1][3].parse().unwrap();
    let got = printed["loss"].as_f64().unwrap();
    assert!((got - expected).abs() < LOSS, "{got} for {expected}");
    assert_eq!(printed["images"], 8);
}

#[test]
fn an_old_checkpoint_classifies_as_it_did() {
    let (folder, run) = old_run();
    let picture = folder.path().join("out.png");
    let command = format!("predict --index 0,1,2,3 --json --out {}", text(&picture));
    let got: Value = serde_json::from_str(&on_the_cpu(&run, &command)).unwrap();
    let expected = fs::read_to_string(fixture().join("predictions.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(got.as_array().unwrap().len(), 4);
    for (got, expected) in pairs(&got, &expected) {
        assert_eq!(got["true"], expected["true"]);
        for (got, expected) in pairs(&got["predictions"], &expected["predictions"]) {
            assert_eq!(got["class"], expected["class"]);
            let probability = |value: &Value| value["probability"].as_f64().unwrap();
            let apart = probability(got).ln() - probability(expected).ln();
            assert!(apart.abs() < LOSS, "{got} for {expected}");
        }
    }
}

fn pairs<'a>(a: &'a Value, b: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let (a, b) = (a.as_array().unwrap(), b.as_array().unwrap());
    assert_eq!(a.len(), b.len());
    a.iter().zip(b)
}
