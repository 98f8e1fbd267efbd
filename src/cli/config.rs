//! What a run is to do: the settings laid over each other, and checked.
//!
//! A setting comes from the first of these that names it: command line, environment, `-c` file, the run to be resumed,
//! preset. Each of them is a TOML table. [`Config::resolve`] lays them over each other and refuses what does not fit
//! together, before any device or data is touched. The result is saved in the run's folder as `config.toml`, in the form
//! that `-c` reads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::cli::args::TrainArgs;
use crate::cli::arguments;
pub use crate::cli::config_error::ConfigError;
use crate::cli::config_file;
use crate::cli::resume;
use crate::cli::settings;
pub use crate::cli::settings::Preset;
use crate::data::{Augment, DatasetKind};
use crate::device::DeviceChoice;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, PrecisionChoice, UnitsChoice};
use crate::run::run_dir::RunDir;
use crate::run::schedule::LearningRateDrops;
use crate::show::progress::ProgressMode;

/// The key of the preset, which says where the other settings come from.
const PRESET: &str = "preset";

/// The settings of one training run: what the list in [`settings`] says, with a type each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub preset: Preset,
    pub device: DeviceChoice,
    pub plugin: Option<PathBuf>,
    /// `None`: all TPUs or GPUs, one CPU.
    pub replicas: Option<ReplicaChoice>,
    /// `None`: what suits the device.
    pub precision: Option<PrecisionChoice>,
    /// `None`: what suits the device.
    pub units: Option<UnitsChoice>,
    pub bn: BatchNormMode,
    pub depth: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub lr: f64,
    pub lr_drops: LearningRateDrops,
    pub momentum: f64,
    pub l2: f64,
    pub seed: u64,
    pub augment: Augment,
    /// 0: none.
    pub cutout: usize,
    /// `None`: as many whole batches as the training images fill.
    pub steps_per_epoch: Option<u64>,
    pub max_steps: Option<u64>,
    /// `None`: all images that validation has.
    pub eval_steps: Option<u64>,
    pub no_shuffle: bool,
    pub dataset: DatasetKind,
    /// 0: validation has the test images.
    pub validation_split: usize,
    pub data_dir: PathBuf,
    pub out_dir: PathBuf,
    pub init_weights: Option<PathBuf>,
    /// `None`: once an epoch.
    pub checkpoint_every: Option<u64>,
    pub keep: usize,
    pub progress: ProgressMode,
}

impl Config {
    /// The settings that `args` name, those of the file that they name, of the run to be resumed, and of the preset;
    /// checks the result.
    pub fn resolve(args: &TrainArgs) -> Result<Self, ConfigError> {
        let mut layers = vec![args.settings()?];
        if let Some(path) = &args.config {
            layers.push(config_file::read(path)?);
        }
        let config = Self::from_table(overlay(&layers)?)?;
        let config = if args.resume {
            Self::resolve_resumed(layers, config.out_dir)?
        } else {
            config
        };
        config.validate()?;
        Ok(config)
    }

    /// The settings of the run in `out_dir`, where `layers` do not name others that it can take.
    fn resolve_resumed(mut layers: Vec<Table>, out_dir: PathBuf) -> Result<Self, ConfigError> {
        let mut saved = resume::settings(&RunDir::of(&out_dir))?;
        let names = |setting: &str| layers.iter().any(|layer| layer.contains_key(setting));
        // The end of the run is given anew, so the one of before no longer counts.
        if names("epochs")
            && !names("max-steps")
            && let Some(steps) = saved.remove("max-steps")
        {
            log::info!("--epochs takes the place of the run's --max-steps {steps}");
        }
        layers.push(saved);
        let now = overlay(&layers)?;
        check_resumes(&overlay(&layers[layers.len() - 1..])?, &now)?;
        Ok(Self {
            out_dir,
            ..Self::from_table(now)?
        })
    }

    /// The defaults of `preset`.
    pub fn preset(preset: Preset) -> Result<Self, ConfigError> {
        Self::from_table(arguments::defaults(preset)?)
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        table.try_into().map_err(ConfigError::unsavable)
    }

    fn to_table(&self) -> Result<Table, ConfigError> {
        Table::try_from(self).map_err(ConfigError::unsavable)
    }

    /// The settings in the form that `-c` reads, with paths that mean the same from any folder. What
    /// [`Config::resolve`] gives always has one.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let located = Self {
            data_dir: absolute(&self.data_dir),
            out_dir: absolute(&self.out_dir),
            init_weights: self.init_weights.as_deref().map(absolute),
            plugin: self.plugin.as_deref().map(absolute),
            ..self.clone()
        };
        Ok(located.to_table()?.to_string())
    }

    /// Refuses what does not fit together, and what would be too long to be read back. That each number is in its
    /// range is seen to when it is parsed, see [`arguments`].
    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(replicas) = self.replicas.and_then(ReplicaChoice::count) {
            check_split(self.batch_size, replicas)?;
        }
        let length = self.to_toml()?.len() as u64;
        if length > config_file::MAX_LEN {
            let reason = format!(
                "expected at most {} bytes, got {length}",
                config_file::MAX_LEN
            );
            return Err(ConfigError::unsavable(reason));
        }
        Ok(())
    }
}

/// Each setting from the first of `layers` that names it, else from the preset.
fn overlay(layers: &[Table]) -> Result<Table, ConfigError> {
    let named = layers.iter().find_map(|layer| layer.get(PRESET));
    let preset = match named {
        Some(name) => name.clone().try_into().map_err(ConfigError::unsavable)?,
        None => Preset::Keras,
    };
    let mut all = arguments::defaults(preset)?;
    for layer in layers.iter().rev() {
        all.extend(layer.clone());
    }
    Ok(all)
}

/// Refuses settings `now` other than `saved` that the weights or the history depend on.
fn check_resumes(saved: &Table, now: &Table) -> Result<(), ConfigError> {
    let text =
        |value: Option<&toml::Value>| value.map_or("not set".to_owned(), toml::Value::to_string);
    for setting in settings::all().iter().filter(|setting| !setting.free) {
        let (saved, now) = (saved.get(setting.name), now.get(setting.name));
        if saved != now {
            return Err(ConfigError::Differs {
                field: setting.name.to_owned(),
                saved: text(saved),
                now: text(now),
            });
        }
    }
    Ok(())
}

/// Refuses a batch that `replicas` cannot share evenly.
pub fn check_split(batch_size: usize, replicas: usize) -> Result<(), ConfigError> {
    if batch_size.is_multiple_of(replicas) {
        return Ok(());
    }
    Err(ConfigError::Split {
        batch_size,
        replicas,
    })
}

/// Refuses to hold out so many of `training` images that less than a batch is left.
pub fn check_validation_split(
    held_out: usize,
    training: usize,
    batch_size: usize,
) -> Result<(), ConfigError> {
    let left = training.saturating_sub(held_out);
    if held_out == 0 || left >= batch_size {
        return Ok(());
    }
    Err(ConfigError::ValidationSplit {
        held_out,
        training,
        batch_size,
    })
}

/// `path` from the root, where that can be written into a file.
fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.to_str().is_some() => absolute,
        _ => path.to_owned(),
    }
}
