//! Traced computations in a folder (`export --program`, `--program`): the same bits without tracing, and one clear
//! error for each folder that is not right.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use program::plugins::cpu_plugin;
use program::runs::{assert_same_end, copy_folder, quick_run};
use program::{fail, run, succeed, text};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/small.toml");
const STEPS: &str = "--max-steps 3 --eval-steps 1";

/// The computations of the smallest network for the runtime's CPU, and three steps that were traced.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    export(&folder.path().join("program"), "cpu", &[]);
    succeed(&quick_run(&folder.path().join("traced"), STEPS));
    folder
});

fn exported() -> PathBuf {
    FOLDER.path().join("program")
}

fn export(folder: &Path, on: &str, more: &[&str]) -> String {
    let args = ["export", "--program", text(folder), "--settings", SMALL];
    succeed(&[&args[..], &["--on", on], more].concat())
}

/// Three steps with the computations in `program`, in a new folder: what was logged.
fn train(program: &Path, out_dir: &Path, more: &[&str]) -> String {
    let mut args = vec!["--program", text(program), "--out-dir", text(out_dir)];
    args.extend(STEPS.split_whitespace());
    let output = run(&[&args[..], more].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    errors
}

#[test]
fn a_program_from_a_folder_gives_the_bits_of_a_traced_one() {
    let folder = tempfile::tempdir().unwrap();
    let out_dir = folder.path().join("run");
    let log = train(&exported(), &out_dir, &["--device", "cpu"]);
    assert!(log.contains("compiled train_step: read in"), "{log}");
    assert!(!log.contains("traced"), "{log}");
    assert_same_end(&out_dir, &FOLDER.path().join("traced"));
    // It goes on from the folder that its settings name.
    succeed(&["--resume", "--out-dir", text(&out_dir), "--max-steps", "5"]);
}

#[test]
fn evaluation_prediction_and_report_run_from_a_folder() {
    let traced = FOLDER.path().join("traced");
    let folder = tempfile::tempdir().unwrap();
    for (command, more) in [
        ("eval", &["--json", "--steps", "2", "--batch-size", "8"][..]),
        ("predict", &["--json", "--index", "3,1,2"]),
    ] {
        let mut args = vec![command, "--device", "cpu", "--checkpoint", text(&traced)];
        let picture = folder.path().join("predictions.png");
        if command == "predict" {
            args.extend(["--out", text(&picture)]);
        }
        args.extend(more);
        let program = exported();
        let from_folder = [&args[..], &["--program", text(&program)]].concat();
        assert_eq!(succeed(&args), succeed(&from_folder), "{command}");
    }
    let page = folder.path().join("report.html");
    let program = exported();
    let args = ["report", "--device", "cpu", "--checkpoint", text(&traced)];
    let more = ["--program", text(&program), "--out", text(&page)];
    succeed(&[&args[..], &more].concat());
    assert!(page.is_file());
}

#[test]
fn a_folder_for_several_replicas_runs_on_a_plugin() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (program, out_dir) = (folder.path().join("program"), folder.path().join("run"));
    let traced = folder.path().join("traced");
    export(&program, "cpu-plugin", &["--replicas", "2"]);
    train(&program, &out_dir, &["--plugin", text(&plugin)]);
    let args = quick_run(&traced, STEPS);
    succeed(&[&args[..], &["--replicas", "2", "--plugin", text(&plugin)]].concat());
    assert_same_end(&out_dir, &traced);
}

/// A copy of the exported folder.
fn copied() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    copy_folder(&exported(), &copy);
    (folder, copy)
}

/// The error of a training run with `program` and `more`, which ends with exit code `code`.
fn refusal(program: &Path, more: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out_dir = folder.path().join("run");
    let args = ["--program", text(program), "--device", "cpu"];
    let message = fail(
        &[&args[..], &["--out-dir", text(&out_dir)], more].concat(),
        code,
    );
    assert!(!out_dir.exists());
    message
}

#[test]
fn a_flipped_bit_in_any_file_is_found() {
    let (_folder, copy) = copied();
    for file in ["train_step.hlo.pb", "program.json"] {
        let path = copy.join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let out = copy.join("run");
        let args = ["--program", text(&copy), "--device", "cpu", "--out-dir"];
        let message = fail(&[&args[..], &[text(&out)]].concat(), 3);
        assert!(
            message.contains(file) && message.contains("expected SHA-256"),
            "{message}"
        );
        fs::write(&path, whole).unwrap();
        let _ = fs::remove_dir_all(&out);
    }
    fs::write(copy.join("SHA256SUMS"), "nonsense\n").unwrap();
    assert!(refusal(&copy, &[], 3).contains("expected a sum and a file on each line"));
}

#[test]
fn what_is_no_program_or_only_half_of_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let message = refusal(&nowhere, &[], 3);
    assert!(message.contains("`export --program` wrote"), "{message}");
    let (_folder, copy) = copied();
    fs::remove_file(copy.join("SHA256SUMS")).unwrap();
    let message = refusal(&copy, &[], 3);
    assert!(message.contains("SHA256SUMS"), "{message}");
}

#[test]
fn a_program_of_another_version_says_both() {
    let (_folder, copy) = copied();
    let path = copy.join("program.json");
    let manifest = fs::read_to_string(&path).unwrap();
    let newer = manifest.replace("\"version\": 1,", "\"version\": 2, \"new\": 0,");
    assert_ne!(newer, manifest);
    fs::write(&path, &newer).unwrap();
    let sums = fs::read_to_string(copy.join("SHA256SUMS")).unwrap();
    let sum = |text: &str| {
        let digest = Sha256::digest(text.as_bytes());
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let sums = sums.replace(&sum(&manifest), &sum(&newer));
    fs::write(copy.join("SHA256SUMS"), sums).unwrap();
    let message = refusal(&copy, &[], 3);
    assert!(
        message.contains("is of version 2") && message.contains("reads version 1"),
        "{message}"
    );
}

#[test]
fn a_program_for_other_settings_names_the_setting() {
    for (more, expected) in [
        (
            &["--batch-size", "16"][..],
            "batch-size 8, and 16 is asked for",
        ),
        (&["--replicas", "2"], "replicas 1, and 2 is asked for"),
        (&["--l2", "0"], "l2 0.0001, and 0.0 is asked for"),
        (
            &["--precision", "bf16"],
            "precision \"f32\", and \"bf16\" is asked for",
        ),
    ] {
        let message = refusal(&exported(), more, 3);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_program_with_kernels_is_refused_by_a_plugin() {
    if !cpu_kernels::supported() {
        println!("skipped: this processor runs no kernels");
        return;
    }
    let Some(plugin) = cpu_plugin() else { return };
    let message = refusal(&exported(), &["--plugin", text(&plugin)], 4);
    assert!(
        message.contains("calls the kernels") && message.contains("--on cpu-plugin"),
        "{message}"
    );
}

#[test]
fn a_folder_with_other_files_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "mine").unwrap();
    let path = text(folder.path());
    let args = [
        "export",
        "--program",
        path,
        "--settings",
        SMALL,
        "--on",
        "tpu",
    ];
    let message = fail(&args, 2);
    assert!(message.contains("there are other files in it"), "{message}");
    // An earlier program is replaced.
    let (_folder, copy) = copied();
    let before = fs::read(copy.join("SHA256SUMS")).unwrap();
    export(&copy, "tpu", &["--replicas", "8"]);
    assert_ne!(fs::read(copy.join("SHA256SUMS")).unwrap(), before);
}

#[test]
fn two_exports_of_the_same_settings_are_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("program");
    export(&again, "cpu", &[]);
    let sums = |program: &Path| fs::read_to_string(program.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&again), sums(&exported()));
    // The names and shapes that go in and out are there for people and other programs.
    let manifest = fs::read_to_string(again.join("program.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let predict = &manifest["computations"]["predict_step"];
    assert_eq!(predict["inputs"][2]["name"], "images");
    assert_eq!(predict["inputs"][2]["array"], "f32[8,32,32,3]");
    assert_eq!(predict["outputs"], serde_json::json!(["f32[8,10]"]));
}
