//! A page that compares runs: their curves in the same axes, their results, and the settings in which they differ.

use std::collections::BTreeSet;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::units::{duration, percent};
use super::{ReportError, Run};
use crate::run::history::EpochRecord;
use crate::show::plot::{self, Quantity};

/// Runs differ in their folder whatever they are.
const NOT_COMPARED: &str = "out-dir";

/// The page's content, in the order of `templates/comparison.html`.
#[derive(Template)]
#[template(path = "comparison.html")]
pub struct Comparison {
    charts: Vec<Chart>,
    results: Vec<ResultRow>,
    /// Name, and the value in each run.
    settings: Vec<(String, Vec<String>)>,
}

struct Chart {
    title: &'static str,
    /// An SVG in a `data:` URL.
    picture: String,
}

/// The first cell is the run's name.
struct ResultRow {
    cells: Vec<String>,
}

impl Comparison {
    pub fn new(runs: &[Run]) -> Result<Self, ReportError> {
        Ok(Self {
            charts: vec![
                chart("Accuracy", Quantity::Accuracy, runs)?,
                chart("Loss", Quantity::Loss, runs)?,
            ],
            results: runs.iter().map(result_row).collect(),
            settings: differing(runs),
        })
    }
}

fn chart(title: &'static str, quantity: Quantity, runs: &[Run]) -> Result<Chart, ReportError> {
    let runs: Vec<plot::Run> = runs
        .iter()
        .map(|run| plot::Run {
            name: &run.name,
            records: run.history.records(),
        })
        .collect();
    let svg = plot::svg(quantity, &runs)?;
    Ok(Chart {
        title,
        picture: format!("data:image/svg+xml;base64,{}", BASE64.encode(svg)),
    })
}

fn result_row(run: &Run) -> ResultRow {
    let unknown = || "–".to_owned();
    let records = run.history.records();
    let (best, last) = (run.history.best(), records.last());
    let last_loss = last.and_then(|last| last.val_loss);
    let seconds: f64 = records.iter().map(|record| record.seconds).sum();
    ResultRow {
        cells: vec![
            run.name.clone(),
            run.history.epochs().to_string(),
            best.map_or_else(unknown, |best| percent(best.val_acc)),
            best.map_or_else(unknown, |best| (best.epoch + 1).to_string()),
            last.and_then(|last| last.val_acc)
                .map_or_else(unknown, percent),
            last_loss.map_or_else(unknown, |loss| format!("{loss:.4}")),
            duration(seconds),
            last.and_then(EpochRecord::rate)
                .map_or_else(unknown, |rate| format!("{rate:.0}")),
        ],
    }
}

/// The settings whose values are not the same in all runs.
fn differing(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.config.keys()).collect();
    let value = |run: &Run, name: &str| match run.setting(name) {
        empty if empty.is_empty() => "–".to_owned(),
        value => value,
    };
    names
        .into_iter()
        .filter(|name| name.as_str() != NOT_COMPARED)
        .map(|name| {
            (
                name.clone(),
                runs.iter().map(|run| value(run, name)).collect(),
            )
        })
        .filter(|(_, values): &(String, Vec<String>)| {
            values.iter().any(|value| *value != values[0])
        })
        .collect()
}
