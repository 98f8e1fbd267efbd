//! Merges the settings of a run from all that name some.
//!
//! A setting comes from the first of these that names it: command line, environment, `-c` file, `--program` folder or
//! resumed run, preset. A resumed run has its settings already and takes only the computations from the folder, if they are
//! for these settings.
//!
//! Each of them is a TOML table. [`Config::resolve`] merges them and refuses settings that do not fit together, before any
//! device or data is touched; only the length of an epoch may depend on the data.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use toml::Table;
use xla_graphs::network::Version;

use crate::cli::args::TrainArgs;
use crate::cli::arguments;
use crate::cli::config::{Config, ConfigError, Preset};
use crate::cli::config_file;
use crate::cli::resume;
use crate::cli::settings;
use crate::model::network::{NetworkKind, Widths};
use crate::model::optimisers::OptimiserKind;
use crate::model::program_folder::ProgramFolder;
use crate::run::run_dir::RunDir;
use crate::run::schedule::LearningRateDrops;

/// The key of the preset, which gives the defaults of the other settings.
const PRESET: &str = "preset";
const PROGRAM: &str = "program";
const SCHEDULE: &str = "lr-schedule";
const DROPS: &str = "lr-drops";
const MODEL: &str = "model";
const WIDTHS: &str = "widths";
const BN_MOMENTUM: &str = "bn-momentum";
/// PyTorch's default: there the moving statistics take 0.1 of each batch's.
const BN_MOMENTUM_OF_V1: f64 = 0.9;
const OPTIMISER: &str = "optimizer";
const L2: &str = "l2";
const DECAY: &str = "weight-decay";

impl Config {
    /// Merges the settings from `args`, the config file, the run to be resumed and the preset, and checks the result.
    pub fn resolve(args: &TrainArgs) -> Result<Self, ConfigError> {
        let layers = named_layers(args)?;
        let named = Self::of_new_run(&layers)?;
        Self::settle(layers, named, args, args.resume)
    }

    /// The settings that `layers` make, which are `named` for a new run. It tells where the run to be resumed is, too.
    pub fn settle(
        layers: Vec<Table>,
        named: Self,
        args: &TrainArgs,
        resume: bool,
    ) -> Result<Self, ConfigError> {
        let config = match resume {
            true => Self::resolve_resumed(layers, named.out_dir)?,
            false => named,
        };
        config.validate()?;
        config.check_is_read(args)?;
        Ok(config)
    }

    /// The settings as for a new run, even if one is to be resumed; they may not fit together.
    pub fn of_new_run(layers: &[Table]) -> Result<Self, ConfigError> {
        let mut layers = layers.to_vec();
        layers.extend(program_settings(&layers)?);
        Self::from_table(overlay(&layers)?)
    }

    /// The settings of the run in `out_dir`, with changes from `layers` where a resumed run allows them.
    fn resolve_resumed(mut layers: Vec<Table>, out_dir: PathBuf) -> Result<Self, ConfigError> {
        let mut saved = resume::settings(&RunDir::of(&out_dir))?;
        let names = |setting: &str| layers.iter().any(|layer| layer.contains_key(setting));
        // A new end is given, so the old one no longer counts.
        if names("epochs")
            && !names("max-steps")
            && let Some(steps) = saved.remove("max-steps")
        {
            log::info!("--epochs replaces the run's --max-steps {steps}");
        }
        layers.push(saved);
        let now = overlay(&layers)?;
        let saved = overlay(&layers[layers.len() - 1..])?;
        check_resumes(&saved, &now)?;
        let config = Self {
            out_dir,
            ..Self::from_table(now)?
        };
        config.warn_of_other_rates(Self::from_table(saved)?.epochs);
        Ok(config)
    }

    /// Says so if the steps to come get other rates than they would have got before, when there were `epochs`.
    fn warn_of_other_rates(&self, epochs: usize) {
        if self.epochs == epochs || !self.lr_schedule.ends_with_the_epochs() {
            return;
        }
        log::warn!(
            "--epochs was {epochs} and is now {}: the schedule {} ends with the last epoch. From here on the learning \
             rates are those of a run of {} epochs; the steps before had those of {epochs}",
            self.epochs,
            self.lr_schedule.name(),
            self.epochs
        );
    }

    /// The settings in `table`, which may lack some, with the defaults of its preset.
    pub fn complete(table: Table) -> Result<Self, ConfigError> {
        let config = Self::from_table(overlay(&[table])?)?;
        config.validate()?;
        Ok(config)
    }

    /// The defaults of `preset`.
    pub fn preset(preset: Preset) -> Result<Self, ConfigError> {
        Self::from_table(arguments::defaults(preset)?)
    }

    /// The defaults of the first preset that trains networks of `kind`, or else of the preset keras.
    pub fn of_model(kind: NetworkKind) -> Result<Self, ConfigError> {
        for &preset in Preset::value_variants() {
            let config = Self::preset(preset)?;
            if config.model == kind {
                return Ok(config);
            }
        }
        let named = Table::from_iter([(MODEL.to_owned(), String::from(kind).into())]);
        Self::from_table(overlay(&[named])?)
    }
}

/// The settings that the command line, the environment and the `-c` file name.
pub fn named_layers(args: &TrainArgs) -> Result<Vec<Table>, ConfigError> {
    let mut layers = vec![args.settings()?];
    if let Some(path) = &args.config {
        layers.push(config_file::read(path)?);
    }
    Ok(layers)
}

/// The settings of the traced computations that one of `layers` names, if one does.
fn program_settings(layers: &[Table]) -> Result<Option<Table>, ConfigError> {
    let folder = layers.iter().find_map(|layer| layer.get(PROGRAM)?.as_str());
    let Some(folder) = folder else {
        return Ok(None);
    };
    let folder = ProgramFolder::open(Path::new(folder))?;
    config_file::parse(&folder.manifest_path(), folder.config()).map(Some)
}

/// Takes each setting from the first of `layers` that names it, or else from the preset.
fn overlay(layers: &[Table]) -> Result<Table, ConfigError> {
    let named = layers.iter().find_map(|layer| layer.get(PRESET));
    let preset = match named {
        Some(name) => name.clone().try_into().map_err(ConfigError::unsavable)?,
        None => Preset::Keras,
    };
    let mut all = arguments::defaults(preset)?;
    // A preset's drops belong to its schedule.
    let schedule = layers.iter().find_map(|layer| layer.get(SCHEDULE));
    if schedule.is_some_and(|named| all.get(SCHEDULE) != Some(named)) {
        all.insert(
            DROPS.to_owned(),
            LearningRateDrops::default().to_string().into(),
        );
    }
    let model = layers.iter().find_map(|layer| layer.get(MODEL)?.as_str());
    if let Some(Ok(kind)) = model.map(|name| NetworkKind::try_from(name.to_owned())) {
        if kind.is_by_hand() {
            all.insert(WIDTHS.to_owned(), Widths::BY_HAND.into());
        }
        if kind.version() == Version::V1 {
            all.insert(BN_MOMENTUM.to_owned(), BN_MOMENTUM_OF_V1.into());
        }
    }
    let optimiser = layers.iter().find_map(|layer| layer.get(OPTIMISER));
    if optimiser.is_some_and(|named| named.as_str() == Some(OptimiserKind::Adamw.name())) {
        // Its decay is what a preset's penalty is to other optimisers.
        all.insert(L2.to_owned(), 0.0.into());
        all.insert(DECAY.to_owned(), OptimiserKind::ADAMW_DECAY.into());
    }
    for layer in layers.iter().rev() {
        all.extend(layer.clone());
    }
    Ok(all)
}

/// Refuses changes between `saved` and `now` in settings that the weights or the history depend on.
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
