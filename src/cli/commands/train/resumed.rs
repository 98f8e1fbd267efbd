//! Where a resumed run starts: its state, its history, and whether anything is left to do.

use std::cmp::Ordering;

use anyhow::Result;
use xla_graphs::Layout;

use crate::cli::config::{Config, ConfigError};
use crate::cli::resume;
use crate::data::{BatchSource, DatasetSpec};
use crate::device::DeviceKind;
use crate::device::replicas::Counted;
use crate::model::choose::{self, BatchNormMode, ModelSettings};
use crate::model::state::HostState;
use crate::run::checkpoint::{self, CheckpointError, Position};
use crate::run::history::History;
use crate::run::run_dir::RunDir;

/// Loads the newest intact checkpoint of the run, which is to go on with images of this spec and this sum.
pub fn state(
    run_dir: &RunDir,
    layout: &Layout,
    (spec, sum): (&DatasetSpec, Option<&str>),
    settings: &ModelSettings,
    device: DeviceKind,
) -> Result<(HostState, Position)> {
    resume::mend_config(run_dir)?;
    let newest = checkpoint::load_newest(&run_dir.checkpoints(), layout);
    let (state, info) = match newest {
        Err(CheckpointError::None { .. }) => Err(ConfigError::NothingToResume {
            folder: run_dir.root().to_owned(),
        })?,
        Err(error) => {
            // That the classes are others says more than that the classifier has another width.
            if let Ok(info) = checkpoint::newest_info(&run_dir.checkpoints()) {
                check_data(&info.spec, spec)?;
            }
            Err(error)?
        }
        Ok(newest) => newest,
    };
    check_data(&info.spec, spec)?;
    check_pictures(info.data_sum.as_deref(), sum)?;
    check_replicas(info.replicas, settings)?;
    compare_instructions(info.instructions.as_deref(), &choose::instructions(device));
    Ok((state, info.position))
}

/// The history before `position`: the current epoch gets a new row.
pub fn history(before: Option<History>, run_dir: &RunDir, position: &Position) -> Result<History> {
    let Some(mut history) = before else {
        return Ok(History::create(&run_dir.history())?);
    };
    history.truncate_from(position.epoch)?;
    Ok(history)
}

/// Refuses images of another size or other classes than those `before`: what the network says would mean other things.
fn check_data(before: &DatasetSpec, now: &DatasetSpec) -> Result<(), ConfigError> {
    if before == now {
        return Ok(());
    }
    let differ = before.class_names.iter().ne(&now.class_names);
    let (saved, now) = match differ {
        true => (classes(before), classes(now)),
        false => (before.side.to_string(), now.side.to_string()),
    };
    Err(ConfigError::Differs {
        field: if differ { "classes" } else { "image size" }.to_owned(),
        saved,
        now,
    })
}

/// Refuses other images than those `before`: others would be held out, and those that were would be trained on. Older
/// checkpoints do not say which they were.
fn check_pictures(before: Option<&str>, now: Option<&str>) -> Result<(), ConfigError> {
    let (Some(before), Some(now)) = (before, now) else {
        return Ok(());
    };
    if before == now {
        return Ok(());
    }
    let named = |sum: &str| format!("the data set with the SHA-256 sum {sum:.12}…");
    Err(ConfigError::Differs {
        field: "pictures".to_owned(),
        saved: named(before),
        now: format!("{} (pictures were added, removed or changed)", named(now)),
    })
}

/// The first few classes, and how many there are.
fn classes(spec: &DatasetSpec) -> String {
    let first: Vec<&str> = spec
        .class_names
        .iter()
        .take(3)
        .map(String::as_str)
        .collect();
    format!("{} ({}, …)", spec.classes(), first.join(", "))
}

/// Refuses a number of replicas other than `before` if the weights depend on it.
fn check_replicas(before: usize, settings: &ModelSettings) -> Result<(), ConfigError> {
    let now = settings.replicas;
    if before == now {
        return Ok(());
    }
    if settings.batch_norm == BatchNormMode::Local {
        return Err(ConfigError::Differs {
            field: "replicas".to_owned(),
            saved: before.to_string(),
            now: now.to_string(),
        });
    }
    log::info!(
        "resuming with {}; it was {before}. The batch and its statistics stay the same, and so do \
         the results, except for rounding",
        Counted(now)
    );
    Ok(())
}

/// Says so if the run goes on with another instruction set, or on another kind of device.
fn compare_instructions(before: Option<&str>, now: &str) {
    if let Some(before) = before.filter(|before| *before != now) {
        log::warn!(
            "the run was computed on {before} and now continues on {now}; its weights may differ in rounding from those of an \
             uninterrupted run"
        );
    }
}

/// Whether there is nothing left to do: all steps are done, and the result is written or can no longer be computed.
pub fn is_done(
    config: &Config,
    run_dir: &RunDir,
    position: &Position,
    before: Option<&History>,
    training: &BatchSource,
) -> bool {
    let per_epoch = training.steps_per_epoch();
    let total = config.trainer(per_epoch).steps_to_take(per_epoch);
    match position.step.cmp(&total) {
        Ordering::Less => false,
        Ordering::Equal => {
            // A run that was stopped before the evaluation of its first epoch has no records either, and goes on.
            let records_are_lost = || before.is_none_or(|history| history.records().is_empty());
            has_result(run_dir) || (position.step_in_epoch == 0 && records_are_lost())
        }
        Ordering::Greater => true,
    }
}

/// Whether there is an intact `result.json`.
fn has_result(run_dir: &RunDir) -> bool {
    let text = std::fs::read_to_string(run_dir.result());
    text.is_ok_and(|text| serde_json::from_str::<serde_json::Value>(&text).is_ok())
}
