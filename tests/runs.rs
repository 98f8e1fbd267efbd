//! What `runs` lists, what `report A B` compares, and the page of a run that goes on.

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use program::runs::{PATIENCE, copy_folder, quick_run, signal};
use program::{fail, program, succeed, text};
use serde_json::Value;
use tempfile::TempDir;

/// Two epochs of a step each.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--epochs 2 --steps-per-epoch 1 --eval-steps 1 --lr 0.25 --seed 7";
    succeed(&quick_run(&out, options));
    folder
});

/// A copy of the run.
fn copy(to: &Path) {
    copy_folder(&RUN.path().join("run"), to);
}

fn history(run: &Path) -> Vec<Vec<f64>> {
    let history = fs::read_to_string(run.join("history.csv")).unwrap();
    let rows = history.lines().skip(1);
    rows.map(|row| row.split(',').map(|field| field.parse().unwrap()).collect())
        .collect()
}

#[test]
fn runs_are_listed_with_state_best_accuracy_time_and_changed_settings() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy(&root.join("done"));
    copy(&root.join("in use"));
    fs::create_dir(root.join("more")).unwrap();
    copy(&root.join("more/stopped"));
    fs::remove_file(root.join("more/stopped/result.json")).unwrap();
    symlink(root.join("done"), root.join("link")).unwrap();
    // Other programs have such files too, and what is hidden is not looked into.
    fs::create_dir(root.join("no run")).unwrap();
    fs::write(root.join("no run/config.toml"), "").unwrap();
    copy(&root.join(".hidden"));
    let lock = fs::File::create(root.join("in use/run.lock")).unwrap();
    fs::write(root.join("in use/run.lock"), "4711\n").unwrap();
    lock.lock().unwrap();

    let found: Value = serde_json::from_str(&succeed(&["runs", text(root), "--json"])).unwrap();
    let found = found.as_array().unwrap();
    let names: Vec<&str> = found
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    let expected = ["done", "in use", "more/stopped"].map(|name| root.join(name));
    assert_eq!(names, expected.each_ref().map(|path| text(path)));
    let states: Vec<&Value> = found.iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["done", "running", "interrupted"]);
    assert_eq!(
        (&found[0]["pid"], &found[1]["pid"]),
        (&Value::Null, &"4711".into())
    );
    let epochs = history(&root.join("done"));
    let best = epochs.iter().map(|epoch| epoch[4]).fold(0.0, f64::max);
    let seconds: f64 = epochs.iter().map(|epoch| epoch[6]).sum();
    for run in found {
        assert_eq!((&run["epochs"], &run["of_epochs"]), (&2.into(), &2.into()));
        assert_eq!(run["best_acc"], best);
        assert_eq!(run["seconds"], seconds);
        assert_eq!(run["preset"], "keras");
        let settings = &run["settings"];
        assert_eq!(
            (&settings["lr"], &settings["seed"]),
            (&0.25.into(), &7.into())
        );
        assert_eq!(settings["dataset"], "sample");
        // Those of the preset, and places.
        for name in ["momentum", "out-dir", "preset"] {
            assert!(settings[name].is_null(), "{name}");
        }
    }

    let table = succeed(&["runs", text(root)]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 4 && rows[0].starts_with("run "), "{table}");
    let percent = format!("{:.2} %", 100.0 * best);
    for part in [
        "more/stopped",
        " interrupted ",
        " 2/2 ",
        &percent,
        " keras ",
        " lr=0.25 ",
    ] {
        assert!(rows[3].contains(part), "no {part} in {table}");
    }
}

#[test]
fn a_run_that_max_steps_ended_is_stopped_and_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let options = "--epochs 3 --steps-per-epoch 2 --eval-steps 1";
    succeed(&quick_run(&run, &format!("{options} --max-steps 3")));
    let found = || -> Value {
        let found = succeed(&["runs", text(folder.path()), "--json"]);
        serde_json::from_str::<Value>(&found).unwrap()[0].clone()
    };
    let stopped = found();
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(
        (&stopped["stopped_at"], &stopped["of_steps"]),
        (&3.into(), &6.into())
    );
    let table = succeed(&["runs", text(folder.path())]);
    assert!(table.contains("  stopped at step 3 of 6  "), "{table}");

    // A limit that is not reached stops nothing.
    let args = ["--resume", "--out-dir", text(&run), "--max-steps", "10"];
    succeed(&args);
    assert_eq!(found()["state"], "done");
    // As before results said how many steps there are.
    let result = run.join("result.json");
    let content = fs::read_to_string(&result).unwrap();
    let older = content.replace("\"all_steps\": 6", "\"of\": 7");
    assert_ne!(older, content);
    fs::write(&result, older).unwrap();
    assert_eq!(found()["state"], "done");
}

#[test]
fn a_folder_without_runs_gives_an_empty_list_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        succeed(&["runs", text(folder.path()), "--json"]).trim(),
        "[]"
    );
    assert_eq!(succeed(&["runs", text(folder.path())]), "");
    let missing = folder.path().join("missing");
    let message = fail(&["runs", text(&missing)], 2);
    assert!(message.contains("there is no folder") && message.contains("missing"));
}

#[test]
fn a_run_whose_files_are_damaged_is_listed_with_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&run);
    fs::write(run.join("config.toml"), "lr = = 3\n").unwrap();
    fs::write(run.join("history.csv"), "nonsense\n").unwrap();
    let output = program::run(&["runs", text(folder.path()), "--json"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    for name in ["config.toml", "history.csv"] {
        assert!(errors.contains(name), "{errors}");
    }
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found[0]["state"], &found[0]["epochs"]),
        (&"done".into(), &0.into())
    );
    assert!(found[0]["best_acc"].is_null() && found[0]["preset"].is_null());
}

#[test]
fn a_comparison_has_the_curves_of_all_runs_and_the_settings_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    copy(&first);
    let options = "--epochs 1 --steps-per-epoch 1 --eval-steps 1 --lr 0.125 --seed 7";
    succeed(&quick_run(&second, options));
    let page = folder.path().join("both.html");
    let names = [text(&first), text(&second)];
    let printed = succeed(&["report", names[0], names[1], "--out", text(&page)]);
    assert_eq!(printed, format!("report: {}\n", text(&page)));

    let page = fs::read_to_string(&page).unwrap();
    let cells = |cells: [&str; 3]| {
        format!(
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            cells[0], cells[1], cells[2]
        )
    };
    assert!(page.contains(&cells(["epochs", "2", "1"])), "{page}");
    assert!(page.contains(&cells(["lr", "0.25", "0.125"])));
    for same in ["<th>seed</th>", "<th>depth</th>", "<th>out-dir</th>"] {
        assert!(!page.contains(same), "{same}");
    }
    for (run, name) in [&first, &second].into_iter().zip(names) {
        let rows = history(run);
        let last = rows.last().unwrap();
        for part in [
            name,
            &format!("{:.2} %", 100.0 * last[4]),
            &format!("{:.4}", last[3]),
        ] {
            assert!(page.contains(&format!(">{part}</td>")), "{part}");
        }
    }
    let pictures = page.split("data:image/svg+xml;base64,").skip(1);
    let pictures: Vec<String> = pictures
        .map(|rest| {
            BASE64_STANDARD
                .decode(rest.split('"').next().unwrap())
                .unwrap()
        })
        .map(|svg| String::from_utf8(svg).unwrap())
        .collect();
    assert_eq!(pictures.len(), 2);
    for (picture, title) in pictures.iter().zip(["Accuracy", "Loss"]) {
        // Both runs in the legend, by the ends of their names if these are long.
        assert!(picture.contains(title) && picture.contains("first") && picture.contains("second"));
    }

    let message = fail(&["report", names[0], text(folder.path())], 2);
    assert!(message.contains("is not the folder of a run"), "{message}");
    let message = fail(&["report", names[0], names[1], "--weights", "last"], 2);
    assert!(
        message.contains("--weights is for the page of one run"),
        "{message}"
    );
    let own = first.join("report.html");
    let message = fail(&["report", names[0], names[1], "--out", text(&own)], 2);
    assert!(message.contains("would overwrite RUN"), "{message}");
}

/// Waits until the page at `path` is as `wanted`.
fn wait_for_page(path: &Path, child: &mut Child, wanted: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let page = fs::read_to_string(path).unwrap_or_default();
        if wanted(&page) {
            return page;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        assert!(
            start.elapsed() < PATIENCE,
            "no such page after {PATIENCE:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_page_of_a_running_epoch_loads_itself_again_until_the_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // An epoch that does not end before the signal comes.
    let options = "--epochs 5 --steps-per-epoch 10000000 --log-every 1";
    let mut child = program(&quick_run(&run, options))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let path: PathBuf = run.join("report.html");
    let refreshes = |page: &str| page.contains(r#"<meta http-equiv="refresh" content="10">"#);
    let page = wait_for_page(&path, &mut child, refreshes);
    for part in [
        "Epoch 1 of 5",
        "of 10,000,000",
        " · loss ",
        "0 of 5 epochs so far",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    // There is nothing of an evaluation yet.
    assert!(!page.contains("Confusion matrix") && !page.contains("accuracy</div>"));
    let state = |run: &Path| {
        let printed = succeed(&["runs", text(run), "--json"]);
        serde_json::from_str::<Value>(&printed).unwrap()[0]["state"].clone()
    };
    assert_eq!(state(&run), "running");

    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let page = fs::read_to_string(&path).unwrap();
    assert!(!refreshes(&page) && !page.contains("Epoch 1 of 5"));
    assert!(page.contains("0 of 5 epochs so far"));
    assert_eq!(state(&run), "interrupted");
}
