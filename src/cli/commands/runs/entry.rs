//! What is known of one run.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Table, Value};

use crate::cli::arguments;
use crate::cli::config_file;
use crate::cli::settings::Preset;
use crate::run::history::History;
use crate::run::run_dir::{RunDir, RunState};

/// Settings that say where a run is and what it shows, not what it is.
const NOT_SHOWN: [&str; 5] = ["preset", "data-dir", "out-dir", "plugin", "progress"];

/// A line of the list.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its folder.
    pub run: String,
    pub state: String,
    /// Of the process that works on it.
    pub pid: Option<String>,
    /// Of a run that `--max-steps` stopped: the step, and how many the run is to have.
    pub stopped_at: Option<u64>,
    pub of_steps: Option<u64>,
    /// `None` if its settings cannot be read.
    pub preset: Option<String>,
    /// Those that are not the preset's.
    pub settings: BTreeMap<String, Value>,
    /// Epochs in its history.
    pub epochs: usize,
    /// Epochs that it is to have.
    pub of_epochs: Option<u64>,
    /// The highest validation accuracy, as a share, and the epoch that had it, from 0.
    pub best_acc: Option<f64>,
    pub best_epoch: Option<usize>,
    /// Of all epochs.
    pub seconds: f64,
}

impl Entry {
    /// What the files of `run` say. A file that cannot be read is warned of, and its facts are left out.
    pub fn read(run: &RunDir) -> Self {
        let state = run.state();
        let config = settings(run);
        let history = history(run);
        let records = history.iter().flat_map(History::records);
        let best = history.as_ref().and_then(History::best);
        let (pid, stopped_at, of_steps) = match &state {
            RunState::Running { pid } => (Some(pid.clone()), None, None),
            RunState::Stopped { step, all } => (None, Some(*step), Some(*all)),
            RunState::Interrupted | RunState::Done => (None, None, None),
        };
        Self {
            run: run.root().display().to_string(),
            state: state.to_string(),
            stopped_at,
            of_steps,
            pid,
            preset: text(&config, "preset"),
            of_epochs: config.get("epochs").and_then(whole),
            settings: changed(config),
            epochs: history.as_ref().map_or(0, History::epochs),
            best_acc: best.map(|best| best.val_acc),
            best_epoch: best.map(|best| best.epoch),
            seconds: records.map(|record| record.seconds).sum(),
        }
    }
}

/// The settings of `run`; none if they cannot be read, or are not there yet.
fn settings(run: &RunDir) -> Table {
    if !run.config().exists() {
        return Table::new();
    }
    config_file::read_any(&run.config()).unwrap_or_else(|error| {
        log::warn!("{error}");
        Table::new()
    })
}

fn history(run: &RunDir) -> Option<History> {
    if !run.history().exists() {
        return None;
    }
    let (history, fault) = History::salvage(&run.history());
    if let Some(fault) = fault {
        log::warn!("{fault}");
    }
    Some(history)
}

/// The settings of `config` that are not those of its preset.
fn changed(config: Table) -> BTreeMap<String, Value> {
    let preset = config.get("preset").cloned();
    let preset: Option<Preset> = preset.and_then(|preset| preset.try_into().ok());
    let defaults = preset.and_then(|preset| arguments::defaults(preset).ok());
    let defaults = defaults.unwrap_or_default();
    let is_changed = |(name, value): &(String, Value)| {
        !NOT_SHOWN.contains(&name.as_str()) && defaults.get(name) != Some(value)
    };
    config.into_iter().filter(is_changed).collect()
}

fn text(config: &Table, name: &str) -> Option<String> {
    Some(config.get(name)?.as_str()?.to_owned())
}

fn whole(value: &Value) -> Option<u64> {
    u64::try_from(value.as_integer()?).ok()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::config::Config;

    #[test]
    fn a_preset_without_changes_shows_none_and_a_change_is_shown() {
        for &preset in Preset::value_variants() {
            let mut config = Config::preset(preset).unwrap();
            let shown = |config: &Config| changed(config.to_toml().unwrap().parse().unwrap());
            assert_eq!(shown(&config), BTreeMap::new());
            (config.lr, config.max_steps) = (0.5, Some(7));
            config.out_dir = "elsewhere".into();
            let shown = shown(&config).into_iter();
            let shown: Vec<String> = shown
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            assert_eq!(shown, ["lr=0.5", "max-steps=7"]);
        }
    }
}
