//! docs/accuracy.md says what the committed runs say, and its commands mean today what they meant then.

use std::fs;
use std::path::{Path, PathBuf};

use resnet_xla::cli::arguments;
use resnet_xla::cli::config::Config;
use serde_json::Value;
use toml::Table;

/// A row of the table of runs.
struct Row {
    options: String,
    /// Of the run's settings, history and result.
    folder: PathBuf,
    /// Of the test images, in percent.
    accuracy: f64,
    loss: f64,
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn page() -> String {
    fs::read_to_string(docs().join("accuracy.md")).unwrap()
}

/// The rows that have options, which those of means do not.
fn rows() -> Vec<Row> {
    let page = page();
    let (_, section) = page.split_once("\n## Runs\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_start_matches("| ").split(" | ").collect();
    let [options, link, accuracy, _, _, loss, ..] = cells[..] else {
        panic!("{line}");
    };
    let link = link.split_once("](").and_then(|(_, to)| to.split_once(')'));
    let (folder, _) = link.unwrap_or_else(|| panic!("no link to a run in {line}"));
    let accuracy = accuracy.trim_matches('*').trim_end_matches(" %");
    Row {
        options: options.trim_matches('`').to_owned(),
        folder: docs().join(folder),
        accuracy: accuracy.parse().unwrap(),
        loss: loss.trim_end_matches(" with L2").parse().unwrap(),
    }
}

fn saved(row: &Row) -> Table {
    let text = fs::read_to_string(row.folder.join("config.toml")).unwrap();
    text.parse().unwrap()
}

/// The settings of a run with these options, as they would be saved.
fn settings(options: &str) -> Table {
    let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    let config = Config::resolve(&arguments::parse_training(&options).unwrap()).unwrap();
    config.to_toml().unwrap().parse().unwrap()
}

#[test]
fn the_options_of_each_row_have_the_settings_of_its_run() {
    // What no result depends on.
    const FREE: [&str; 7] = [
        "preset",
        "out-dir",
        "data-dir",
        "device",
        "keep",
        "log-every",
        "progress",
    ];
    let defaults = settings("");
    for row in rows() {
        let (saved, today) = (saved(&row), settings(&row.options));
        for (name, value) in &today {
            // An earlier program did not save what it did not have, and did what is the default now.
            let expected = saved.get(name).or(defaults.get(name));
            let is_free = FREE.contains(&name.as_str());
            assert!(
                is_free || expected == Some(value),
                "{}: {name} is {value}, and was {expected:?}",
                row.options
            );
        }
        for name in saved.keys() {
            assert!(today.contains_key(name), "{}: no {name}", row.options);
        }
    }
}

#[test]
fn each_row_has_the_accuracy_and_the_loss_of_its_run() {
    for row in rows() {
        let result = fs::read_to_string(row.folder.join("result.json")).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        let apart = result["val_loss"].as_f64().unwrap() - row.loss;
        assert!(apart.abs() <= 0.0005 + 1e-9, "{}: {apart}", row.options);
        // The page's figure is that of f32; a run in bf16 scored itself in bf16.
        let scored_alike = saved(&row).get("precision").is_none();
        let bound = if scored_alike { 0.005 } else { 0.1 };
        let apart = 100.0 * result["val_acc"].as_f64().unwrap() - row.accuracy;
        assert!(apart.abs() <= bound + 1e-9, "{}: {apart}", row.options);
    }
}

#[test]
fn each_committed_run_has_a_row_and_its_history() {
    let rows = rows();
    let mut runs = 0;
    for entry in fs::read_dir(docs().join("runs")).unwrap() {
        let folder = entry.unwrap().path();
        // Runs of peers have settings of their own.
        if !folder.join("config.toml").exists() {
            continue;
        }
        runs += 1;
        let of = rows.iter().filter(|row| row.folder == folder);
        assert_eq!(of.count(), 1, "rows of {}", folder.display());
        let history = fs::read_to_string(folder.join("history.csv")).unwrap();
        let text = fs::read_to_string(folder.join("config.toml")).unwrap();
        let settings: Table = text.parse().unwrap();
        let epochs = settings["epochs"].as_integer().unwrap();
        assert_eq!(history.lines().count() as i64, 1 + epochs);
    }
    assert_eq!(runs, rows.len());
}

#[test]
fn every_file_that_the_page_links_is_there() {
    let page = page();
    let links = page.split("](").skip(1);
    let links = links.map(|rest| rest.split([')', '#']).next().unwrap());
    let files: Vec<&str> = links
        .filter(|link| !link.is_empty() && !link.starts_with("https:"))
        .collect();
    for file in &files {
        assert!(docs().join(file).exists(), "{file}");
    }
    let curves = files.iter().filter(|file| file.ends_with(".svg"));
    assert!(curves.count() >= 3, "{files:?}");
}
