//! Traced computations in a folder (`export --program`, `--program`): the same bits without tracing, and one clear
//! error for each folder that is not right.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cpu_kernels::isa::VARIABLE;
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
    let log = train(&exported(), &out_dir, &["--device", "cpu", "--keep", "9"]);
    assert!(log.contains("compiled train_step: read in"), "{log}");
    assert!(!log.contains("traced"), "{log}");
    assert_same_end(&out_dir, &FOLDER.path().join("traced"));
    // It goes on from the folder that its settings name.
    let resume = ["--resume", "--out-dir", text(&out_dir), "--max-steps"];
    succeed(&[&resume[..], &["5"]].concat());
    // Where the folder is named again, the run's own settings stay, which are not all those of the folder.
    let program = exported();
    succeed(&[&resume[..], &["6", "--program", text(&program)]].concat());
    let config = fs::read_to_string(out_dir.join("config.toml")).unwrap();
    assert!(config.contains("keep = 9\n"), "{config}");
    assert!(config.contains("eval-steps = 1\n"), "{config}");
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
    // The plugin runs the kernels where the processor does.
    let on = match cpu_kernels::supported() {
        true => "cpu",
        false => "cpu-plugin",
    };
    export(&program, on, &["--replicas", "2"]);
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

/// Flips a bit of `file`, at a `place` out of its length.
fn flip(file: &Path, place: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(file).unwrap();
    let place = place(bytes.len());
    bytes[place] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// All files below `folder` with their content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

#[test]
fn a_flipped_bit_in_any_file_is_found_before_anything_is_written() {
    let (_folder, copy) = copied();
    let whole = contents(&copy);
    assert_eq!(whole.len(), 5);
    for (path, content) in &whole {
        let name = path.file_name().unwrap().to_str().unwrap();
        // The sums begin with that of the first file.
        let (place, named) = match name {
            "SHA256SUMS" => (0, "eval_step.hlo.pb"),
            _ => (content.len() / 2, name),
        };
        flip(path, |_| place);
        let message = refusal(&copy, &[], 3);
        assert!(
            message.contains(named) && message.contains("expected SHA-256"),
            "{name}: {message}"
        );
        fs::write(path, content).unwrap();
    }
    fs::write(copy.join("SHA256SUMS"), "nonsense\n").unwrap();
    assert!(refusal(&copy, &[], 3).contains("expected a sum and a file on each line"));
}

#[test]
fn a_damaged_program_leaves_the_run_that_was_to_be_overwritten() {
    let (folder, copy) = copied();
    let old = folder.path().join("old");
    copy_folder(&FOLDER.path().join("traced"), &old);
    let before = contents(&old);
    flip(&copy.join("predict_step.hlo.pb"), |len| len / 2);
    let args = ["--overwrite", "--device", "cpu", "--out-dir", text(&old)];
    let message = fail(&[&args[..], &["--program", text(&copy)]].concat(), 3);
    assert!(message.contains("predict_step.hlo.pb"), "{message}");
    assert!(contents(&old) == before, "the old run was changed");
}

/// Makes `content` a file of the program in `folder`, sum and all.
fn put(folder: &Path, file: &str, content: &[u8]) {
    let path = folder.join(file);
    let sum = |bytes: &[u8]| {
        let digest = Sha256::digest(bytes);
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let before = sum(&fs::read(&path).unwrap());
    assert!(sums.contains(&before));
    fs::write(
        folder.join("SHA256SUMS"),
        sums.replace(&before, &sum(content)),
    )
    .unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_computation_that_is_none_is_refused_whatever_its_sum() {
    let (_folder, copy) = copied();
    put(&copy, "train_step.hlo.pb", b"nonsense");
    let message = refusal(&copy, &[], 3);
    assert!(message.contains("train_step.hlo.pb"), "{message}");
    // That of another step.
    let eval = fs::read(copy.join("eval_step.hlo.pb")).unwrap();
    put(&copy, "train_step.hlo.pb", &eval);
    let message = refusal(&copy, &[], 3);
    assert!(message.contains("its inputs and outputs"), "{message}");
}

#[test]
fn a_computation_that_the_device_cannot_compile_is_an_error_of_its_own() {
    let (folder, copy) = copied();
    // An operation that there is not, in a program that is otherwise as it was.
    let mut hlo = fs::read(copy.join("train_step.hlo.pb")).unwrap();
    const BEFORE: &[u8] = b"broadcast";
    let places: Vec<_> = (0..=hlo.len() - BEFORE.len())
        .filter(|&place| hlo[place..].starts_with(BEFORE))
        .collect();
    assert!(!places.is_empty());
    for place in places {
        hlo[place..][..BEFORE.len()].copy_from_slice(b"broadcost");
    }
    put(&copy, "train_step.hlo.pb", &hlo);
    let out_dir = folder.path().join("run");
    let args = ["--program", text(&copy), "--device", "cpu", "--out-dir"];
    let message = fail(&[&args[..], &[text(&out_dir)]].concat(), 4);
    for part in [
        "cpu cannot compile train_step of the program in",
        text(&copy),
        "broadcost",
        "export it again with --on cpu",
    ] {
        assert!(message.contains(part), "{message}");
    }
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
    put(&copy, "program.json", newer.as_bytes());
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
        (
            &["--mixup", "0.2"],
            "mixup or cutmix false, and true is asked for",
        ),
        (&["--ema", "0.9"], "ema null, and 0.9 is asked for"),
        (&["--optimizer", "muon"], "optimizer "),
        (
            &["--bn", "local"],
            "bn \"sync\", and \"local\" is asked for",
        ),
    ] {
        let message = refusal(&exported(), more, 2);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_program_with_kernels_is_refused_where_they_do_not_run() {
    if !cpu_kernels::supported() {
        println!("skipped: this processor runs no kernels");
        return;
    }
    let refused = |device: &[&str]| {
        let args = ["--max-steps", "1", "--program"];
        let (program, folder) = (exported(), tempfile::tempdir().unwrap());
        let out_dir = folder.path().join("run");
        let more = [text(&program), "--out-dir", text(&out_dir)];
        let mut command = self::program::program(&[&args[..], &more, device].concat());
        let output = command.env(VARIABLE, "generic").output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        assert!(!out_dir.exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let message = refused(&["--device", "cpu"]);
    assert!(message.contains("this processor has none"), "{message}");
    let Some(plugin) = cpu_plugin() else { return };
    let message = refused(&["--plugin", text(&plugin)]);
    assert!(
        message.contains("calls kernels") && message.contains("--on cpu-plugin"),
        "{message}"
    );
}

#[test]
fn a_program_without_kernels_runs_where_a_faster_one_would() {
    let Some(plugin) = cpu_plugin() else { return };
    if !cpu_kernels::supported() {
        println!("skipped: this processor runs no kernels");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (program, out_dir) = (folder.path().join("program"), folder.path().join("run"));
    export(&program, "cpu-plugin", &[]);
    let log = train(&program, &out_dir, &["--plugin", text(&plugin)]);
    let hint = "one that is exported with --on cpu may be faster";
    assert!(log.contains(hint), "{log}");
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
    // Nor is one with files of the same names that are something else's, or with more than a program.
    fs::remove_file(folder.path().join("letter.txt")).unwrap();
    fs::write(folder.path().join("program.json"), "{\"mine\": 1}").unwrap();
    fail(&args, 2);
    let (_folder, copy) = copied();
    fs::write(copy.join("letter.txt"), "mine").unwrap();
    let all = contents(&copy);
    let more = ["export", "--program", text(&copy), "--settings", SMALL];
    fail(&[&more[..], &["--on", "tpu"]].concat(), 2);
    assert!(contents(&copy) == all, "the folder was changed");
    // An earlier program is replaced, and so is half of one.
    fs::remove_file(copy.join("letter.txt")).unwrap();
    fs::remove_file(copy.join("program.json")).unwrap();
    fs::write(copy.join(".program.json.Ab12Cd.tmp"), "half").unwrap();
    let before = fs::read(copy.join("SHA256SUMS")).unwrap();
    export(&copy, "tpu", &["--replicas", "8"]);
    assert_ne!(fs::read(copy.join("SHA256SUMS")).unwrap(), before);
}

#[test]
fn the_device_of_a_run_does_not_travel() {
    let traced = FOLDER.path().join("traced");
    let config = fs::read_to_string(traced.join("config.toml")).unwrap();
    assert!(config.contains("device = \"cpu\"\n"), "{config}");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let args = ["export", "--checkpoint", text(&traced), "--on", "tpu"];
    succeed(&[&args[..], &["--program", text(&program)]].concat());
    let manifest = fs::read_to_string(program.join("program.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let config = manifest["config"].as_str().unwrap();
    assert!(config.contains("device = \"auto\"\n"), "{config}");
    assert_eq!(manifest["device"], "tpu");
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
