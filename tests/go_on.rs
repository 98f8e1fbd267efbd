//! A run goes on from whatever is left of its folder, to the end that it was given.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::{assert_same_end, checkpoints, copy_folder, finish};
use program::{fail, run, succeed, text};

/// A run of 18 steps, and one that stopped after 9 of them, which are an epoch and a half.
struct Runs {
    folder: tempfile::TempDir,
    whole: PathBuf,
    stopped: PathBuf,
}

fn runs() -> Runs {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    finish(&whole, &[]);
    finish(&stopped, &["--max-steps", "9"]);
    Runs {
        folder,
        whole,
        stopped,
    }
}

impl Runs {
    /// A copy of the stopped run.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        copy_folder(&self.stopped, &to);
        to
    }
}

/// Resumes with `more` arguments, which must succeed, and returns what was said.
fn go_on(path: &Path, more: &[&str]) -> String {
    let output = run(&[&["--resume", "--out-dir", text(path)], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn read(run: &Path, name: &str) -> String {
    fs::read_to_string(run.join(name)).unwrap()
}

#[test]
fn without_its_config_a_run_goes_on_with_the_settings_in_its_checkpoint() {
    let runs = runs();
    let whole = read(&runs.stopped, "config.toml");
    let damages = [
        None,
        Some(""),
        Some("depth = \n"),
        Some("dephts = 11\n"),
        Some(&whole[..whole.find("seed").unwrap()]),
    ];
    for (round, damage) in damages.into_iter().enumerate() {
        let run = runs.copy(&format!("copy{round}"));
        let path = run.join("config.toml");
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let said = go_on(&run, &["--max-steps", "18"]);
        assert!(said.contains("config.toml"), "{said}");
        assert!(said.contains("in the newest checkpoint are used"), "{said}");
        assert_same_end(&run, &runs.whole);
        let settings = |text: String| -> toml::Table {
            let mut table: toml::Table = text.parse().unwrap();
            table.retain(|key, _| key != "max-steps" && key != "out-dir");
            table
        };
        let (now, then) = (read(&run, "config.toml"), whole.clone());
        assert_eq!(settings(now), settings(then));
        let kept = fs::read_to_string(run.join("config.toml.damaged")).ok();
        assert_eq!(kept.as_deref(), damage);
    }
}

#[test]
fn without_its_history_a_run_goes_on_and_says_which_rows_are_lost() {
    let runs = runs();
    let history = read(&runs.stopped, "history.csv");
    let whole = read(&runs.whole, "history.csv");
    for (round, damage) in [None, Some(""), Some("time,temperature\n1,2\n")]
        .into_iter()
        .enumerate()
    {
        let run = runs.copy(&format!("copy{round}"));
        let path = run.join("history.csv");
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let said = go_on(&run, &["--max-steps", "18"]);
        assert!(
            said.contains("history.csv lacks the rows of 1 of the 1 epochs"),
            "{said}"
        );
        let kept = fs::read_to_string(run.join("history.csv.damaged")).ok();
        assert_eq!(kept.as_deref(), damage);
        // The columns after the learning rate are timings.
        let rows = |text: &str, skip: usize| -> Vec<String> {
            let row = |row: &str| row.split(',').take(6).collect::<Vec<_>>().join(",");
            text.lines().skip(skip).map(row).collect()
        };
        // A header and the rows from the second epoch on.
        assert_eq!(rows(&read(&run, "history.csv"), 1), rows(&whole, 2));
        let (now, then) = (read(&run, "result.json"), read(&runs.whole, "result.json"));
        let epochs = |text: &str| {
            let result: serde_json::Value = serde_json::from_str(text).unwrap();
            (result["epochs"].clone(), result["val_loss"].clone())
        };
        assert_eq!(epochs(&now), epochs(&then));
    }
    // Cut short in the row of the epoch under way, which comes anew: nothing is lost.
    let run = runs.copy("cut");
    let cut = &history[..history.trim_end().rfind(',').unwrap()];
    fs::write(run.join("history.csv"), cut).unwrap();
    let said = go_on(&run, &["--max-steps", "18"]);
    assert!(said.contains("line 3: expected 9 fields, got 8"), "{said}");
    assert!(!said.contains("lacks"), "{said}");
    assert_same_end(&run, &runs.whole);
}

#[test]
fn a_run_with_nothing_left_but_checkpoints_goes_on_to_the_same_weights() {
    let runs = runs();
    let run = runs.folder.path().join("bare");
    fs::create_dir(&run).unwrap();
    copy_folder(&runs.stopped.join("checkpoints"), &run.join("checkpoints"));
    go_on(&run, &["--max-steps", "18"]);
    let weights = |run: &Path| {
        let bytes = fs::read(checkpoints(run).pop().unwrap()).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(weights(&run) == weights(&runs.whole), "some weight differs");
    for name in [
        "config.toml",
        "env.json",
        "history.csv",
        "result.json",
        "report.html",
    ] {
        assert!(run.join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn no_advice_leads_to_the_loss_of_checkpoints() {
    let runs = runs();
    // Config and all checkpoints are damaged: both are named, and nothing is touched.
    let run = runs.copy("damaged");
    fs::write(run.join("config.toml"), "").unwrap();
    for path in checkpoints(&run) {
        fs::write(path, "damaged").unwrap();
    }
    let before = checkpoints(&run);
    let message = fail(&["--resume", "--out-dir", text(&run)], 3);
    for word in ["config.toml", "step-00000009.safetensors"] {
        assert!(message.contains(word), "no {word} in {message}");
    }
    assert!(!message.contains("--overwrite"), "{message}");
    assert_eq!(checkpoints(&run), before);
    assert_eq!(read(&run, "config.toml"), "");
    // A folder with checkpoints is not offered for overwriting: what that does is said.
    let message = fail(&["--preset", "quick", "--out-dir", text(&runs.whole)], 2);
    let advice = "go on with --resume, or choose another folder with --out-dir; --overwrite deletes the run and its \
                  checkpoints (3) first";
    assert!(message.contains(advice), "{message}");
    assert_eq!(checkpoints(&runs.whole).len(), 3);
}

#[test]
fn a_run_stopped_by_max_steps_is_not_called_finished_and_says_how_it_goes_on() {
    let runs = runs();
    let run = runs.stopped.as_path();
    let before = read(run, "history.csv");
    let said = go_on(run, &[]);
    for part in [
        "stopped at step 9 of 18, by --max-steps 9",
        "--resume --epochs 3 continues to the end",
        "--resume --max-steps N to step N",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(!said.contains("finished"), "{said}");
    assert_eq!(read(run, "history.csv"), before);
    // A limit behind the run is no reason to train.
    let said = go_on(run, &["--max-steps", "5"]);
    assert!(
        said.contains("stopped at step 9 of 18, by --max-steps 5"),
        "{said}"
    );

    let said = go_on(run, &["--epochs", "3"]);
    let line = "--epochs replaces the run's --max-steps 9";
    assert!(said.contains(line), "{said}");
    assert_same_end(run, &runs.whole);
    assert!(!read(run, "config.toml").contains("max-steps"));
    let said = go_on(run, &[]);
    assert!(said.contains("is finished, with 3 epochs"), "{said}");
}

#[test]
fn a_run_that_was_killed_before_its_max_steps_ends_there() {
    let runs = runs();
    let run = runs.copy("killed");
    // As after step 8.
    fs::remove_file(run.join("result.json")).unwrap();
    fs::remove_file(checkpoints(&run).pop().unwrap()).unwrap();
    let said = go_on(&run, &[]);
    assert!(said.contains("at most 9 steps (--max-steps)"), "{said}");
    assert!(
        said.contains("stopped at step 9 of 18, by --max-steps 9"),
        "{said}"
    );
    assert_same_end(&run, &runs.stopped);
}

#[test]
fn a_result_that_is_lost_or_damaged_is_written_anew() {
    let runs = runs();
    for damage in [None, Some("{\"loss\":")] {
        let run = runs.folder.path().join("copy");
        copy_folder(&runs.whole, &run);
        match damage {
            None => fs::remove_file(run.join("result.json")).unwrap(),
            Some(text) => fs::write(run.join("result.json"), text).unwrap(),
        }
        succeed(&["--resume", "--out-dir", text(&run)]);
        assert_same_end(&run, &runs.whole);
        fs::remove_dir_all(&run).unwrap();
    }
}
