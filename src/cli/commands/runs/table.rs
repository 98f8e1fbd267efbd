//! Entries as a table.

use toml::Value;

use super::entry::Entry;
use crate::show::report::duration;
use crate::system::text::one_line;

const TITLES: [&str; 7] = [
    "run",
    "state",
    "epochs",
    "best acc",
    "time",
    "preset",
    "other settings",
];

/// A line of titles and one for each entry; nothing without entries.
pub fn of(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| longest(column).unwrap_or(0))
        .collect();
    let line = |row: &[String; 7]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(entry: &Entry) -> [String; 7] {
    let unknown = || "-".to_owned();
    let planned = entry
        .of_epochs
        .map_or_else(unknown, |epochs| epochs.to_string());
    let best = entry.best_acc.map(|acc| format!("{:.2} %", 100.0 * acc));
    [
        one_line(&entry.run).into_owned(),
        state(entry),
        format!("{}/{planned}", entry.epochs),
        best.unwrap_or_else(unknown),
        duration(entry.seconds),
        entry.preset.clone().unwrap_or_else(unknown),
        settings(entry),
    ]
}

fn state(entry: &Entry) -> String {
    match (entry.stopped_at, entry.of_steps) {
        (Some(step), Some(all)) => format!("{} at step {step} of {all}", entry.state),
        _ => entry.state.clone(),
    }
}

fn settings(entry: &Entry) -> String {
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={}", one_line(text)),
        other => format!("{name}={other}"),
    };
    entry
        .settings
        .iter()
        .map(pair)
        .collect::<Vec<_>>()
        .join(" ")
}
