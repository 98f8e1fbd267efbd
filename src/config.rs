//! What a run is to do: the merged, checked settings.
//!
//! A setting comes from the first of these that names it: command line, environment, `-c` file,
//! preset. [`Config::resolve`] merges them and refuses what does not fit together, before any
//! device or data is touched. The result is saved in the run's folder as `config.toml`, in the form
//! that `-c` reads.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cli::TrainArgs;
use crate::data::{Augment, DatasetKind};
use crate::files;
use crate::progress::ProgressMode;
use crate::replicas::ReplicaChoice;
use crate::run_dir;
pub use crate::schedule::LearningRateDrops;

/// Longer config files are not read.
const MAX_FILE_LEN: u64 = 64 << 10;

/// The deepest network, ten times as deep as those in the literature. One checkpoint of it has 830 MB.
const MAX_DEPTH: usize = 10_001;
const MAX_BATCH_SIZE: usize = 65_536;

/// A named set of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The Keras tutorial: ResNet-164 on CIFAR-10, 100 epochs
    Keras,
    /// Depth 11 on the embedded sample, 3 epochs: under a minute on 2 cores
    Quick,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Self::Keras => "keras",
            Self::Quick => "quick",
        }
    }
}

/// Which device to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The best that is there
    Auto,
    Tpu,
    Gpu,
    Cpu,
}

/// What batch statistics cover when several replicas share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The images of all replicas
    Sync,
    /// Each replica's own images
    Local,
}

/// Number format of activations and kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    F32,
    Bf16,
}

/// How the equal units of a stage, all but its first, are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitsChoice {
    /// One by one
    Unrolled,
    /// As a loop over one of them: compiles as fast at any depth
    Loop,
}

/// How the step is written for the compiler ([`xla_graphs::ops::Lowering`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoweringChoice {
    /// XLA's own convolutions and sums
    Native,
    /// 1x1 convolutions and sums as matrix products
    Dots,
    /// The CPU's fused kernels
    Kernels,
}

/// The settings of one training run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// `None`: as many whole batches as the training images fill.
    pub steps_per_epoch: Option<u64>,
    pub max_steps: Option<u64>,
    /// `None`: all test images.
    pub eval_steps: Option<u64>,
    pub no_shuffle: bool,
    pub dataset: DatasetKind,
    pub data_dir: PathBuf,
    pub out_dir: PathBuf,
    pub init_weights: Option<PathBuf>,
    /// `None`: once an epoch.
    pub checkpoint_every: Option<u64>,
    pub keep: usize,
    pub progress: ProgressMode,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the config file {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("config file {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("config file {path}: unknown key `{key}`{hint}; keys are the long option names")]
    UnknownKey {
        path: PathBuf,
        key: String,
        hint: String,
    },
    #[error("--{option}: expected {expected}, got {got}")]
    Value {
        option: &'static str,
        expected: &'static str,
        got: String,
    },
    #[error("--{option}: expected at most {most}, got {got}")]
    TooLarge {
        option: &'static str,
        most: usize,
        got: usize,
    },
    #[error(
        "--batch-size {batch_size} cannot be split evenly over {replicas} replicas; take \
         --batch-size {}, or another --replicas", .batch_size.next_multiple_of(*.replicas)
    )]
    Split { batch_size: usize, replicas: usize },
    #[error("--index: expected 0 to {last}, got {got}")]
    Index { got: usize, last: usize },
    #[error("there is no command `{got}`; --help lists them")]
    Command { got: String },
    #[error(
        "--resume: `{field}` was {saved} and is now {now}; a run goes on only with the settings that \
         its weights depend on. Leave it out, or start a new run with another --out-dir"
    )]
    Differs {
        field: String,
        saved: String,
        now: String,
    },
    #[error(
        "--resume: {folder} holds no checkpoint to go on from; start the run without --resume (with \
         --overwrite, if the folder holds an older one)"
    )]
    NothingToResume { folder: PathBuf },
    #[error(transparent)]
    Depth(#[from] xla_graphs::GraphError),
}

impl Config {
    /// Merges `flags` (which hold the environment's values too) with the file that they name, with
    /// the settings of the run to be resumed, and with the preset; checks the result.
    pub fn resolve(flags: &TrainArgs) -> Result<Self, ConfigError> {
        let mut layers = vec![flags.clone()];
        if let Some(path) = &flags.config {
            layers.push(read_file(path)?);
        }
        let config = Self::merge(&layers);
        let config = if flags.resume {
            Self::resolve_resumed(layers, config.out_dir)?
        } else {
            config
        };
        config.validate()?;
        Ok(config)
    }

    /// The settings of the run in `out_dir`, where `layers` do not name others that it can take.
    fn resolve_resumed(mut layers: Vec<TrainArgs>, out_dir: PathBuf) -> Result<Self, ConfigError> {
        let path = out_dir.join(run_dir::CONFIG);
        if !path.exists() {
            return Err(ConfigError::NothingToResume { folder: out_dir });
        }
        let saved = read_file(&path)?;
        layers.push(saved.clone());
        let config = Self {
            out_dir,
            ..Self::merge(&layers)
        };
        config.check_resumes(&Self::merge(&[saved]))?;
        Ok(config)
    }

    /// Refuses settings other than those of `saved` that the weights or the history depend on.
    fn check_resumes(&self, saved: &Self) -> Result<(), ConfigError> {
        /// Settings that a resumed run may change. Whether the replicas may, the checkpoint decides.
        const FREE: [&str; 13] = [
            "preset",
            "device",
            "plugin",
            "replicas",
            "units",
            "epochs",
            "max-steps",
            "data-dir",
            "out-dir",
            "init-weights",
            "checkpoint-every",
            "keep",
            "progress",
        ];
        let (saved, now) = (saved.to_table(), self.to_table());
        let text = |table: &toml::Table, field: &str| {
            table
                .get(field)
                .map_or("not set".to_owned(), toml::Value::to_string)
        };
        for field in saved.keys().chain(now.keys()) {
            if !FREE.contains(&field.as_str()) && saved.get(field) != now.get(field) {
                return Err(ConfigError::Differs {
                    field: field.clone(),
                    saved: text(&saved, field),
                    now: text(&now, field),
                });
            }
        }
        Ok(())
    }

    fn to_table(&self) -> toml::Table {
        // Every field is a number, a flag or text, which TOML can always say.
        toml::Table::try_from(self).expect("settings are plain values")
    }

    /// The settings in the form that `-c` reads.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    /// The defaults of `preset`.
    pub fn preset(preset: Preset) -> Self {
        let keras = Self {
            preset,
            device: DeviceChoice::Auto,
            plugin: None,
            replicas: None,
            precision: None,
            units: None,
            bn: BatchNormMode::Sync,
            depth: 164,
            epochs: 100,
            batch_size: 128,
            lr: 0.1,
            lr_drops: "80:0.01,120:0.001".parse().unwrap_or_default(),
            momentum: 0.9,
            l2: 1e-4,
            seed: 0,
            augment: Augment::Keras,
            steps_per_epoch: None,
            max_steps: None,
            eval_steps: None,
            no_shuffle: false,
            dataset: DatasetKind::Cifar10,
            data_dir: PathBuf::from("data"),
            out_dir: Path::new("runs").join(preset.name()),
            init_weights: None,
            checkpoint_every: None,
            keep: 3,
            progress: ProgressMode::Auto,
        };
        match preset {
            Preset::Keras => keras,
            Preset::Quick => Self {
                depth: 11,
                epochs: 3,
                // The moving statistics forget their start only after some hundred steps; the
                // sample gives that many in 3 epochs with small batches alone.
                batch_size: 16,
                lr: 0.05,
                dataset: DatasetKind::Sample,
                ..keras
            },
        }
    }

    /// Each setting from the first of `layers` that names it, else from the preset.
    fn merge(layers: &[TrainArgs]) -> Self {
        macro_rules! pick {
            ($($field:ident).+) => { layers.iter().find_map(|layer| layer.$($field).+.clone()) };
        }
        let preset = Self::preset(pick!(preset).unwrap_or(Preset::Keras));
        Self {
            preset: preset.preset,
            device: pick!(device.device).unwrap_or(preset.device),
            plugin: pick!(device.plugin).or(preset.plugin),
            replicas: pick!(device.replicas).or(preset.replicas),
            precision: pick!(device.precision).or(preset.precision),
            units: pick!(device.units).or(preset.units),
            bn: pick!(bn).unwrap_or(preset.bn),
            depth: pick!(depth).unwrap_or(preset.depth),
            epochs: pick!(epochs).unwrap_or(preset.epochs),
            batch_size: pick!(batch_size).unwrap_or(preset.batch_size),
            lr: pick!(lr).unwrap_or(preset.lr),
            lr_drops: pick!(lr_drops).unwrap_or(preset.lr_drops),
            momentum: pick!(momentum).unwrap_or(preset.momentum),
            l2: pick!(l2).unwrap_or(preset.l2),
            seed: pick!(seed).unwrap_or(preset.seed),
            augment: pick!(augment).unwrap_or(preset.augment),
            steps_per_epoch: pick!(steps_per_epoch).or(preset.steps_per_epoch),
            max_steps: pick!(max_steps).or(preset.max_steps),
            eval_steps: pick!(eval_steps).or(preset.eval_steps),
            no_shuffle: pick!(no_shuffle).unwrap_or(preset.no_shuffle),
            dataset: pick!(data.dataset).unwrap_or(preset.dataset),
            data_dir: pick!(data.data_dir).unwrap_or(preset.data_dir),
            out_dir: pick!(out_dir).unwrap_or(preset.out_dir),
            init_weights: pick!(init_weights).or(preset.init_weights),
            checkpoint_every: pick!(checkpoint_every).or(preset.checkpoint_every),
            keep: pick!(keep).unwrap_or(preset.keep),
            progress: pick!(progress).unwrap_or(preset.progress),
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        xla_graphs::Architecture::resnet_v2(self.depth)?;
        check_depth(self.depth)?;
        at_least_one("epochs", self.epochs as u64)?;
        at_least_one("batch-size", self.batch_size as u64)?;
        at_most("batch-size", self.batch_size, MAX_BATCH_SIZE)?;
        if let Some(replicas) = self.replicas.and_then(ReplicaChoice::count) {
            check_split(self.batch_size, replicas)?;
        }
        if self.keep < 2 {
            return Err(ConfigError::Value {
                option: "keep",
                expected: "2 or more, so that one is left when the newest is damaged",
                got: self.keep.to_string(),
            });
        }
        for (option, steps) in [
            ("steps-per-epoch", self.steps_per_epoch),
            ("max-steps", self.max_steps),
            ("eval-steps", self.eval_steps),
            ("checkpoint-every", self.checkpoint_every),
        ] {
            at_least_one(option, steps.unwrap_or(1))?;
        }
        check("lr", "a finite number above 0", self.lr, self.lr > 0.0)?;
        let momentum_fits = (0.0..1.0).contains(&self.momentum);
        check(
            "momentum",
            "a number from 0 up to but not 1",
            self.momentum,
            momentum_fits,
        )?;
        check("l2", "a finite number, 0 or more", self.l2, self.l2 >= 0.0)
    }
}

/// Refuses a depth whose table of tensors alone would fill the memory.
pub fn check_depth(depth: usize) -> Result<(), ConfigError> {
    at_most("depth", depth, MAX_DEPTH)
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

fn at_most(option: &'static str, value: usize, most: usize) -> Result<(), ConfigError> {
    if value <= most {
        return Ok(());
    }
    Err(ConfigError::TooLarge {
        option,
        most,
        got: value,
    })
}

fn at_least_one(option: &'static str, value: u64) -> Result<(), ConfigError> {
    if value >= 1 {
        return Ok(());
    }
    Err(ConfigError::Value {
        option,
        expected: "1 or more",
        got: value.to_string(),
    })
}

fn check(
    option: &'static str,
    expected: &'static str,
    value: f64,
    fits: bool,
) -> Result<(), ConfigError> {
    if fits && value.is_finite() {
        return Ok(());
    }
    Err(ConfigError::Value {
        option,
        expected,
        got: value.to_string(),
    })
}

fn read_file(path: &Path) -> Result<TrainArgs, ConfigError> {
    let text = files::read_text(path, MAX_FILE_LEN).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let parse = |error: toml::de::Error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let table: toml::Table = toml::from_str(&text).map_err(parse)?;
    let options = option_names();
    for key in table.keys() {
        if !options.contains(key) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                hint: near_miss(key, &options),
            });
        }
    }
    toml::from_str(&text).map_err(parse)
}

/// The long names of the training options that a file may set.
fn option_names() -> Vec<String> {
    const FLAGS_ONLY: [&str; 3] = ["config", "overwrite", "resume"];
    TrainArgs::augment_args(clap::Command::new("train"))
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|name| !FLAGS_ONLY.contains(name))
        .map(str::to_owned)
        .collect()
}

/// ", did you mean ...?" for a key that is close to an option.
fn near_miss(key: &str, options: &[String]) -> String {
    options
        .iter()
        .map(|option| (strsim::jaro_winkler(key, option), option))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, option)| {
            format!(", did you mean `{option}`?")
        })
}
