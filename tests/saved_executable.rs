//! `compile --save-executable` and `--load-executable`, with the CPU plugin at both ends: the same bits as compiled there,
//! and one error for each file that does not fit.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::plugins::cpu_plugin;
use program::runs::{assert_same_end, quick_run};
use program::{fail, succeed, text};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The settings of `compile` that [`quick_run`] does not have.
const AS_COMPILED: &str = "--max-steps 3 --eval-steps 1 --bn-momentum 0.99";

/// Compiles `step` for a CPU and saves it in `folder`.
fn saved(folder: &Path, step: &str) -> PathBuf {
    let file = folder.join(step);
    let mut args = vec!["compile", "--target", "cpu", "--depth", "11"];
    args.extend(["--batch-per-chip", "8", "--step", step]);
    args.extend(["--save-executable", text(&file)]);
    let table = succeed(&args);
    assert!(
        table.contains(" step of ResNet-11 v2, f32 on cpu (1 chip)\n"),
        "{table}"
    );
    file
}

#[test]
fn what_was_compiled_elsewhere_is_loaded_and_computes_the_same_bits() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (train, eval) = (saved(folder.path(), "train"), saved(folder.path(), "eval"));
    let out_dir = |name: &str| folder.path().join(name);
    let run = |name: &str, files: &[&Path]| {
        let out_dir = out_dir(name);
        let mut args = quick_run(&out_dir, AS_COMPILED);
        args.extend(["--plugin", text(&plugin)]);
        args.extend(
            files
                .iter()
                .flat_map(|file| ["--load-executable", text(file)]),
        );
        succeed(&args);
        let result = fs::read_to_string(out_dir.join("result.json")).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        let executables = result["executables"].as_array().unwrap().clone();
        executables
            .into_iter()
            .map(|e| e["from"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(run("compiled", &[]), ["compiler", "compiler"]);
    assert_eq!(run("loaded", &[&train, &eval]), ["file", "file"]);
    assert_eq!(run("half", &[&eval]), ["compiler", "file"]);
    for name in ["loaded", "half"] {
        assert_same_end(&out_dir(name), &out_dir("compiled"));
    }

    let run = out_dir("compiled");
    let mut args = vec![
        "eval",
        "--checkpoint",
        text(&run),
        "--plugin",
        text(&plugin),
    ];
    args.extend(["--batch-size", "8", "--json"]);
    let scores = succeed(&args);
    args.extend(["--load-executable", text(&eval)]);
    assert_eq!(succeed(&args), scores);
}

#[test]
fn a_file_that_does_not_fit_is_one_error_before_the_run_s_files_are_written() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = saved(folder.path(), "train");
    let out_dir = folder.path().join("run");
    let refused = |options: &str, on: &[&str], file: &Path, code: i32| {
        let options = format!("{AS_COMPILED} {options}");
        let args = quick_run(&out_dir, &options);
        let message = fail(
            &[&args, on, &["--load-executable", text(file)]].concat(),
            code,
        );
        for name in ["config.toml", "history.csv"] {
            assert!(!out_dir.join(name).exists(), "{name}");
        }
        message
    };
    let on_plugin = ["--plugin", text(&plugin)];

    // Other settings, other devices.
    let message = refused("--batch-size 16", &on_plugin, &file, 3);
    let holds = "train_step of ResNet-11 v2, 8 images a device, f32";
    assert!(message.contains(holds), "{message}");
    let message = refused("--replicas 2", &on_plugin, &file, 4);
    assert!(
        message.contains("compiled for cpu (1 x cpu), and here is 2 x cpu"),
        "{message}"
    );
    let message = refused("", &[], &file, 4);
    assert!(message.contains("loads no executables"), "{message}");

    // Another build of the plugin, by what the file says about it.
    let bytes = fs::read(&file).unwrap();
    let lines: Vec<_> = bytes.splitn(4, |byte| *byte == b'\n').collect();
    let mut about: Value = serde_json::from_slice(lines[2]).unwrap();
    about["compiler"]["plugin"] = "cpu of yesterday".into();
    let content = [about.to_string().as_bytes(), lines[3]].join(&b'\n');
    let older = folder.path().join("older");
    let sum = sha256(&content);
    fs::write(&older, [lines[0], sum.as_bytes(), &content].join(&b'\n')).unwrap();
    let message = refused("", &on_plugin, &older, 4);
    assert!(
        message.contains("by another plugin (cpu of yesterday)"),
        "{message}"
    );

    // A flipped bit, a missing end, another file.
    let damaged = folder.path().join("damaged");
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for content in [&flipped[..], &bytes[..bytes.len() - 1]] {
        fs::write(&damaged, content).unwrap();
        let message = refused("", &on_plugin, &damaged, 3);
        assert!(message.contains("changed or cut short"), "{message}");
    }
    fs::write(&damaged, "a letter\n").unwrap();
    let message = refused("", &on_plugin, &damaged, 3);
    assert!(message.contains("no saved executable"), "{message}");
    let message = refused("", &on_plugin, &folder.path().join("missing"), 3);
    assert!(message.contains("cannot read"), "{message}");
    assert!(!out_dir.exists());
}

#[test]
fn a_run_that_was_to_be_overwritten_stays_when_a_file_is_of_another_computation() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out_dir = folder.path().join("run");
    succeed(&quick_run(&out_dir, AS_COMPILED));
    let kept = ["config.toml", "history.csv", "result.json"];
    let before = kept.map(|name| fs::read(out_dir.join(name)).unwrap());
    // That of the evaluation would be loaded after the training.
    for step in ["train", "eval"] {
        let file = saved(folder.path(), step);
        let options = format!("{AS_COMPILED} --overwrite --batch-size 16");
        let mut args = quick_run(&out_dir, &options);
        args.extend(["--plugin", text(&plugin)]);
        args.extend(["--load-executable", text(&file)]);
        let message = fail(&args, 3);
        assert!(
            message.contains(&format!("{step}_step of ResNet-11 v2, 8 images a device")),
            "{message}"
        );
        let after = kept.map(|name| fs::read(out_dir.join(name)).unwrap());
        assert_eq!(after, before);
    }
    assert!(
        out_dir
            .join("checkpoints/step-00000003.safetensors")
            .exists()
    );
}

/// The SHA-256 of `bytes` in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
