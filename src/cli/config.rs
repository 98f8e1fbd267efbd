//! The settings of a run, each with its type, and what they say to the rooms that read them.
//!
//! `config_layers.rs` merges them from all sources, and `config_checks.rs` refuses those that do not fit together. The
//! result is saved in the run's folder as `config.toml`, which `-c` can read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

pub use crate::cli::config_checks::{check_side, check_split, divide, unread_by_model};
pub use crate::cli::config_error::ConfigError;
use crate::cli::config_file;
pub use crate::cli::config_layers::named_layers;
use crate::cli::settings;
pub use crate::cli::settings::Preset;
use crate::data::{Augment, DatasetKind, DatasetSpec, HeldOut, Mix, PictureOptions, Size};
use crate::device::DeviceChoice;
use crate::device::compile_cache;
use crate::device::coordinator::address::Address;
use crate::device::processes::Asked;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, ModelSettings, PrecisionChoice, UnitsChoice};
use crate::model::network::{BlockChoice, Network, NetworkKind, StageUnits, Widths};
use crate::model::optimisers::{OptimiserKind, OptimiserSettings};
use crate::run::schedule::{
    Cosine, LearningRate, LearningRateDrops, OneCycle, Schedule, ScheduleChoice, StepDecay,
};
use crate::run::trainer::TrainerSettings;
use crate::show::progress::ProgressMode;

/// The settings of one training run, as listed in [`settings`], each with its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub preset: Preset,
    pub device: DeviceChoice,
    pub plugin: Option<PathBuf>,
    /// `None`: the computations are traced.
    pub program: Option<PathBuf>,
    /// `None`: the user's own.
    pub compile_cache: Option<PathBuf>,
    /// `None`: all TPUs or GPUs, one CPU.
    pub replicas: Option<ReplicaChoice>,
    /// `None`: as many as the launcher started. Not saved: a resumed run may have others.
    pub processes: Option<usize>,
    /// `None`: the launcher says it. Not saved.
    pub process: Option<usize>,
    /// `None`: the launcher says it, or nobody needs it. Not saved.
    pub coordinator: Option<Address>,
    /// `None`: what suits the device.
    pub precision: Option<PrecisionChoice>,
    /// `None`: what suits the device.
    pub units: Option<UnitsChoice>,
    pub bn: BatchNormMode,
    pub bn_momentum: f64,
    pub model: NetworkKind,
    pub widths: Widths,
    pub stage_units: StageUnits,
    pub block: BlockChoice,
    pub whiten: bool,
    pub dirac: bool,
    pub depth: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: OptimiserKind,
    pub momentum: f64,
    pub rest_lr: f64,
    pub l2: f64,
    pub label_smoothing: f64,
    /// 0: none.
    pub weight_decay: f64,
    /// 0: no average.
    pub ema: f64,
    pub lr: f64,
    pub lr_schedule: ScheduleChoice,
    pub lr_drops: LearningRateDrops,
    pub warmup: u64,
    pub seed: u64,
    pub augment: Augment,
    /// 0: none.
    pub cutout: usize,
    /// 0: none.
    pub mixup: f64,
    /// 0: none.
    pub cutmix: f64,
    /// `None`: the number of whole batches in the training images.
    pub steps_per_epoch: Option<u64>,
    pub max_steps: Option<u64>,
    /// `None`: all images that validation has.
    pub eval_steps: Option<u64>,
    pub no_shuffle: bool,
    pub dataset: DatasetKind,
    /// None: validation has what the data set has for it.
    pub validation_split: HeldOut,
    /// `None`: 32 for pictures of a folder; other data sets have their own.
    pub image_size: Option<usize>,
    pub skip_bad: bool,
    /// `None`: what is free.
    pub cache_memory: Option<Size>,
    pub data_dir: PathBuf,
    pub out_dir: PathBuf,
    pub init_weights: Option<PathBuf>,
    /// `None`: all layers are trained.
    pub freeze_until: Option<String>,
    /// `None`: once an epoch.
    pub checkpoint_every: Option<u64>,
    pub keep: usize,
    pub log_every: u64,
    /// Steps to record; `None`: none.
    pub profile: Option<u64>,
    pub progress: ProgressMode,
}

impl Config {
    /// Who the settings say that this process is.
    pub fn asked(&self) -> Asked {
        Asked {
            processes: self.processes,
            process: self.process,
        }
    }

    /// The settings `text` of another process of this run.
    pub fn of_peer(text: &str) -> Result<Self, ConfigError> {
        let table = config_file::parse(Path::new("the first process's settings"), text)?;
        Self::complete(table)
    }

    /// The settings that all processes of a run must share, by name and value: all but those for files of one machine.
    pub fn shared(&self) -> Result<Vec<(&'static str, String)>, ConfigError> {
        let own = config_file::without_paths(&self.to_toml()?);
        let own: Table = own.parse().map_err(ConfigError::unsavable)?;
        let value = |name: &str| own.get(name).map_or(String::new(), toml::Value::to_string);
        let shared = settings::all().iter();
        Ok(shared.map(|s| (s.name, value(s.name))).collect())
    }

    /// The network, without image size and classes.
    pub fn network(&self) -> Network {
        Network {
            kind: self.model,
            depth: self.depth,
            widths: self.widths,
            stage_units: self.stage_units,
            block: self.block,
        }
    }

    /// Stages that training leaves as they are, with the stem, if it leaves any layers. Of settings that were checked.
    fn frozen(&self) -> Option<usize> {
        let until = self.freeze_until.as_deref()?;
        let freezable = self.network().freezable().ok()?;
        freezable.iter().position(|name| name == until)
    }

    fn optimiser(&self) -> OptimiserSettings {
        OptimiserSettings {
            kind: self.optimizer,
            momentum: self.momentum,
            rest_lr: self.rest_lr,
        }
    }

    /// How images are mixed, if they are. Only one of the two settings is above 0.
    pub fn mix(&self) -> Option<Mix> {
        match (self.mixup > 0.0, self.cutmix > 0.0) {
            (true, _) => Some(Mix::Blend { alpha: self.mixup }),
            (false, true) => Some(Mix::Paste { alpha: self.cutmix }),
            (false, false) => None,
        }
    }

    /// Share of the old value that the average of the weights keeps, if there is one.
    pub fn averaging(&self) -> Option<f64> {
        (self.ema > 0.0).then_some(self.ema)
    }

    /// What shapes the computations on `replicas` devices, for images as `spec` describes them.
    pub fn model(&self, spec: &DatasetSpec, replicas: usize) -> ModelSettings {
        ModelSettings {
            network: self.network(),
            frozen: self.frozen(),
            classes: spec.classes(),
            image_side: spec.side,
            batch_size: self.batch_size,
            replicas,
            precision: self.precision,
            units: self.units,
            batch_norm: self.bn,
            bn_momentum: self.bn_momentum,
            l2: self.l2,
            label_smoothing: self.label_smoothing,
            mixes_labels: self.mix().is_some(),
            optimiser: self.optimiser(),
            weight_decay: self.weight_decay,
            averaging: self.averaging(),
        }
    }

    /// How pictures of a folder become images, for a command without a run.
    pub fn pictures(&self) -> PictureOptions {
        let usual = PictureOptions::default();
        PictureOptions {
            side: self.image_size.unwrap_or(usual.side),
            skip_bad: self.skip_bad,
            cache_memory: self.cache_memory,
            cache_folder: None,
        }
    }

    pub(super) fn from_table(table: Table) -> Result<Self, ConfigError> {
        table.try_into().map_err(ConfigError::unsavable)
    }

    fn to_table(&self) -> Result<Table, ConfigError> {
        Table::try_from(self).map_err(ConfigError::unsavable)
    }

    /// The settings in the form that `-c` reads, with absolute paths. Never fails for a result of
    /// [`Config::resolve`].
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let located = Self {
            data_dir: absolute(&self.data_dir),
            out_dir: absolute(&self.out_dir),
            processes: None,
            process: None,
            coordinator: None,
            init_weights: self.init_weights.as_deref().map(absolute),
            plugin: self.plugin.as_deref().map(absolute),
            program: self.program.as_deref().map(absolute),
            compile_cache: self.compile_cache.as_deref().map(|folder| {
                match folder == Path::new(compile_cache::NONE) {
                    true => folder.to_owned(),
                    false => absolute(folder),
                }
            }),
            ..self.clone()
        };
        Ok(located.to_table()?.to_string())
    }

    /// What the loop reads, with `per_epoch` steps an epoch.
    pub fn trainer(&self, per_epoch: u64) -> TrainerSettings {
        TrainerSettings {
            epochs: self.epochs,
            max_steps: self.max_steps,
            eval_steps: self.eval_steps,
            checkpoint_every: self.checkpoint_every,
            learning_rate: LearningRate {
                warmup: self.warmup,
                schedule: self.schedule(per_epoch),
            },
        }
    }

    fn schedule(&self, steps_per_epoch: u64) -> Schedule {
        match self.lr_schedule {
            ScheduleChoice::Step => Schedule::Step(StepDecay {
                first: self.lr,
                drops: self.lr_drops.clone(),
                steps_per_epoch,
            }),
            ScheduleChoice::Cosine => Schedule::Cosine(Cosine { peak: self.lr }),
            ScheduleChoice::OneCycle => Schedule::OneCycle(OneCycle { peak: self.lr }),
            ScheduleChoice::Constant => Schedule::Constant(self.lr),
        }
    }

    /// Steps of all epochs, with `per_epoch` steps in each.
    pub fn all_steps(&self, per_epoch: u64) -> u64 {
        self.trainer(per_epoch).all_steps(per_epoch)
    }
}

/// `path` as an absolute path, if that is valid UTF-8 and so can be saved.
fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.to_str().is_some() => absolute,
        _ => path.to_owned(),
    }
}
