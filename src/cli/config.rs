//! What a run is to do: the merged, checked settings.
//!
//! A setting comes from the first of these that names it: command line, environment, `-c` file,
//! preset. [`Config::resolve`] merges them and refuses what does not fit together, before any
//! device or data is touched. The result is saved in the run's folder as `config.toml`, in the form
//! that `-c` reads.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::args::TrainArgs;
use crate::cli::arguments;
use crate::cli::resume;
use crate::cli::spelling::near_miss;
use crate::data::{self, Augment, DatasetKind};
use crate::device::DeviceChoice;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, PrecisionChoice, UnitsChoice};
use crate::run::run_dir::RunDir;
pub use crate::run::schedule::LearningRateDrops;
use crate::show::progress::ProgressMode;
use crate::system::files;
use crate::system::text;

/// Longer config files are not read.
const MAX_FILE_LEN: u64 = 64 << 10;

/// A named set of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
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
    #[error("cannot read the config file {path}: {reason}")]
    Read {
        path: PathBuf,
        reason: std::io::Error,
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
    #[error(
        "--{option} (or {} in the environment): {} is not UTF-8, and config.toml, which keeps it, is; take a path that is",
        arguments::variable(.option), .path.display()
    )]
    NotText { option: &'static str, path: PathBuf },
    #[error("the settings cannot be saved in config.toml: {reason}")]
    Unsavable { reason: String },
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
        "--resume: {folder} holds no checkpoint to go on from; start the run without --resume, and in \
         another --out-dir if this one holds anything (--overwrite deletes what a run left in it)"
    )]
    NothingToResume { folder: PathBuf },
    #[error(
        "--resume: nothing whole is left in {folder} to go on from: {config}; {checkpoint}. Bring one of \
         them back"
    )]
    NothingWhole {
        folder: PathBuf,
        config: String,
        checkpoint: String,
    },
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
        let mut saved = resume::settings(&RunDir::of(&out_dir))?;
        let names_epochs = layers.iter().any(|layer| layer.epochs.is_some());
        // The end of the run is given anew, so the one of before no longer counts.
        if names_epochs
            && layers.iter().all(|layer| layer.max_steps.is_none())
            && let Some(steps) = saved.max_steps.take()
        {
            log::info!("--epochs takes the place of the run's --max-steps {steps}");
        }
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
        let (saved, now) = (saved.to_table()?, self.to_table()?);
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

    fn to_table(&self) -> Result<toml::Table, ConfigError> {
        toml::Table::try_from(self).map_err(|error| ConfigError::Unsavable {
            reason: error.to_string(),
        })
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
            data_dir: PathBuf::from(data::DEFAULT_FOLDER),
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

    /// Refuses what does not fit together, and what could not be saved and read back. That each number is in its
    /// range is seen to when it is parsed, see [`arguments`].
    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(replicas) = self.replicas.and_then(ReplicaChoice::count) {
            check_split(self.batch_size, replicas)?;
        }
        for (option, path) in [
            ("plugin", self.plugin.as_ref()),
            ("data-dir", Some(&self.data_dir)),
            ("out-dir", Some(&self.out_dir)),
            ("init-weights", self.init_weights.as_ref()),
        ] {
            if let Some(path) = path.filter(|path| path.to_str().is_none()) {
                let path = path.clone();
                return Err(ConfigError::NotText { option, path });
            }
        }
        let length = self.to_toml()?.len() as u64;
        if length > MAX_FILE_LEN {
            let reason = format!("expected at most {MAX_FILE_LEN} bytes, got {length}");
            return Err(ConfigError::Unsavable { reason });
        }
        Ok(())
    }
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

/// `path` from the root, where that can be written into a file.
fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.to_str().is_some() => absolute,
        _ => path.to_owned(),
    }
}

/// The settings in a run's `config.toml`, which names all that have a value.
pub fn read_saved(path: &Path) -> Result<TrainArgs, ConfigError> {
    let content = read_text(path)?;
    let settings = parse(path, &content)?;
    let named: toml::Table = content.parse().unwrap_or_default();
    let mut needed = Config::preset(Preset::Keras).to_table()?.into_iter();
    match needed.find(|(name, _)| !named.contains_key(name)) {
        None => Ok(settings),
        Some((name, _)) => Err(ConfigError::Parse {
            path: path.to_owned(),
            message: format!("it is cut short: it has no `{name}`"),
        }),
    }
}

/// The folder of the data that a run with the settings `config` worked on.
pub fn saved_data_dir(config: &str) -> Option<PathBuf> {
    let settings: toml::Table = config.parse().ok()?;
    Some(PathBuf::from(settings.get("data-dir")?.as_str()?))
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    files::read_text(path, MAX_FILE_LEN).map_err(|reason| ConfigError::Read {
        path: path.to_owned(),
        reason,
    })
}

fn read_file(path: &Path) -> Result<TrainArgs, ConfigError> {
    parse(path, &read_text(path)?)
}

/// The settings in `content`, that of the file at `path`: each goes through the parser of its option.
pub fn parse(path: &Path, content: &str) -> Result<TrainArgs, ConfigError> {
    let wrong = |message: String| ConfigError::Parse {
        path: path.to_owned(),
        message,
    };
    let table: toml::Table =
        toml::from_str(content).map_err(|error| wrong(text::toml_error(&error, content)))?;
    let known = option_names();
    let mut options = Vec::new();
    for (key, value) in &table {
        if !known.contains(key) {
            let hint = near_miss(key, &known);
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                hint: hint.map_or(String::new(), |near| format!(", did you mean `{near}`?")),
            });
        }
        let value = plain(value).ok_or_else(|| {
            let got = value.type_str();
            wrong(format!(
                "{key}: expected a number, text, true or false, got {got}"
            ))
        })?;
        options.push(format!("--{key}={value}"));
    }
    arguments::parse_training(&options).map_err(|error| wrong(one_line(&error)))
}

/// A number, a text or a flag as it would stand on a command line.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        // With a point or an exponent: 20.0 is no whole number.
        toml::Value::Float(number) => Some(format!("{number:?}")),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// What clap says, without its advice about the command line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let about = lines.take_while(|line| !line.starts_with("For more information"));
    let about: Vec<_> = about.filter(|line| !line.is_empty()).collect();
    about.join(" ").trim_start_matches("error: ").to_owned()
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
