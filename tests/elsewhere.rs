//! A run means the same files wherever the program is called from.

mod program;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use program::program;
use program::runs::checkpoints;
use safetensors::SafeTensors;
use serde_json::Value;

/// Calls the program in the folder `from` and returns its exit code and what it said.
fn call(from: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = program(args).current_dir(from).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// A folder with two others, `home` and `away`, and a run of one step in `home/run`, begun there.
fn home_and_away() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    // The program's working folder comes without links.
    let root = folder.path().canonicalize().unwrap();
    let (home, away) = (root.join("home"), root.join("away"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&away).unwrap();
    let options = "--preset quick --device cpu --batch-size 8 --max-steps 1 --eval-steps 1";
    let args: Vec<&str> = options.split(' ').collect();
    let names = ["--out-dir", "run", "--data-dir", "images"];
    let (code, said) = call(&home, &[&args[..], &names].concat());
    assert_eq!(code, Some(0), "{said}");
    (folder, home, away)
}

/// Has the newest checkpoint and the settings of `run` say that it was trained on CIFAR-10, which is too large for a
/// test.
fn claim_cifar_10(run: &Path) {
    let path = checkpoints(run).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata: HashMap<String, String> = header.metadata().clone().unwrap();
    let mut info: Value = serde_json::from_str(&metadata["resnet-xla"]).unwrap();
    info["dataset"] = "cifar10".into();
    metadata.insert("resnet-xla".to_owned(), info.to_string());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let claimed = safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap();
    fs::write(&path, claimed).unwrap();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let claimed = config.replace("dataset = \"sample\"", "dataset = \"cifar10\"");
    assert_ne!(claimed, config);
    fs::write(run.join("config.toml"), claimed).unwrap();
}

/// A folder of files with the names of CIFAR-10's and the wrong size, so that what is read of it is refused by name.
fn wrong_files(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for name in [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
    ] {
        fs::write(folder.join(name).with_extension("bin"), "wrong").unwrap();
    }
    fs::write(folder.join("test_batch.bin"), "wrong").unwrap();
}

#[test]
fn the_data_of_a_run_are_found_from_any_folder_and_a_named_folder_wins() {
    let (_folder, home, away) = home_and_away();
    let run = home.join("run");
    let saved = fs::read_to_string(run.join("config.toml")).unwrap();
    let saved: toml::Table = saved.parse().unwrap();
    let images = home.join("images");
    assert_eq!(saved["data-dir"].as_str(), images.to_str());
    assert_eq!(saved["out-dir"].as_str(), run.to_str());

    claim_cifar_10(&run);
    wrong_files(&images);
    let other = away.join("other");
    wrong_files(&other);
    let run = run.to_str().unwrap();
    let commands = [
        ["eval", "--checkpoint", run],
        ["report", "--checkpoint", run],
        ["predict", "--checkpoint", run],
        ["--resume", "--out-dir", run],
    ];
    for command in &commands {
        let (code, said) = call(&away, command);
        let first = images.join("data_batch_1.bin");
        let expected = format!("{}: wrong size", first.display());
        assert_eq!(code, Some(3), "{command:?}: {said}");
        assert!(said.contains(&expected), "{command:?}: {said}");

        let (code, said) = call(&away, &[&command[..], &["--data-dir", "other"]].concat());
        assert_eq!(code, Some(3), "{command:?}: {said}");
        assert!(
            said.contains("other/data_batch_1.bin: wrong size"),
            "{said}"
        );
    }

    // The folder is gone: it is named, and nothing is fetched.
    fs::rename(&images, home.join("moved")).unwrap();
    for command in &commands {
        let (code, said) = call(&away, command);
        let expected = format!(
            "the run's data folder {} is no longer there",
            images.display()
        );
        assert_eq!(code, Some(3), "{command:?}: {said}");
        assert!(
            said.contains(&expected) && said.contains("--data-dir"),
            "{said}"
        );
    }
    let left: Vec<_> = fs::read_dir(&away)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["other"]);
    assert!(!images.exists());
}

#[test]
fn a_saved_config_repeats_the_run_from_any_folder() {
    let (_folder, home, away) = home_and_away();
    let weights = checkpoints(&home.join("run")).pop().unwrap();
    let weights = weights.strip_prefix(&home).unwrap().to_str().unwrap();
    let args = [
        "-c",
        "run/config.toml",
        "--out-dir",
        "next",
        "--init-weights",
        weights,
    ];
    let (code, said) = call(&home, &args);
    assert_eq!(code, Some(0), "{said}");
    let config = home.join("next/config.toml");
    let args = ["-c", config.to_str().unwrap(), "--out-dir", "again"];
    let (code, said) = call(&away, &args);
    assert_eq!(code, Some(0), "{said}");
    let tensors = |run: PathBuf| {
        let bytes = fs::read(checkpoints(&run).pop().unwrap()).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(tensors(home.join("next")) == tensors(away.join("again")));
}

#[test]
fn settings_with_relative_paths_of_an_earlier_version_mean_the_working_folder() {
    let (_folder, home, _) = home_and_away();
    let path = home.join("run/config.toml");
    let saved = fs::read_to_string(&path).unwrap();
    let absolute = format!("\"{}\"", home.join("images").display());
    fs::write(&path, saved.replace(&absolute, "\"images\"")).unwrap();
    claim_cifar_10(&home.join("run"));
    wrong_files(&home.join("images"));
    let (code, said) = call(&home, &["--resume", "--out-dir", "run"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("images/data_batch_1.bin: wrong size"),
        "{said}"
    );
}
