//! The settings of a run, merged from all sources and checked.
//!
//! A setting comes from the first of these that names it: command line, environment, `-c` file, `--program` folder or
//! resumed run, preset. A resumed run has its settings already: of the folder it takes the computations, if they are for
//! these settings.
//! Each of them is a TOML table. [`Config::resolve`] merges them and refuses settings that do not fit together,
//! before any device or data is touched; only the length of an epoch
//! may depend on the data. The result is saved in the run's folder as `config.toml`, which `-c` can
//! read.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use toml::Table;
use xla_graphs::network::Version;

use crate::cli::args::TrainArgs;
use crate::cli::arguments;
pub use crate::cli::config_error::ConfigError;
use crate::cli::config_file;
use crate::cli::resume;
use crate::cli::settings;
pub use crate::cli::settings::Preset;
use crate::data::{
    Augment, Dataset, DatasetKind, DatasetSpec, HeldOut, Mix, PictureOptions, RunImages, Size,
};
use crate::device::DeviceChoice;
use crate::device::compile_cache;
use crate::device::coordinator::address::Address;
use crate::device::processes::Asked;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, ModelSettings, PrecisionChoice, UnitsChoice};
use crate::model::network::{BlockChoice, Network, NetworkKind, StageUnits, Widths};
use crate::model::optimisers::{OptimiserKind, OptimiserSettings};
use crate::model::program_folder::ProgramFolder;
use crate::model::whitening;
use crate::run::run_dir::RunDir;
use crate::run::schedule::{
    Cosine, LearningRate, LearningRateDrops, OneCycle, Schedule, ScheduleChoice, StepDecay,
};
use crate::run::trainer::TrainerSettings;
use crate::show::progress::ProgressMode;

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

    /// Refuses options that nothing reads, where the user typed them: in a file or the environment they may be meant for
    /// other runs.
    fn check_is_read(&self, args: &TrainArgs) -> Result<(), ConfigError> {
        let is_read = |option: &&str| self.model.settings().contains(option);
        let mut typed = BY_MODEL.into_iter().filter(|option| args.types(option));
        if let Some(option) = typed.find(|option| !is_read(option)) {
            return Err(unread_by_model(option, self.model));
        }
        let kind = self.optimizer;
        if kind != OptimiserKind::Muon && args.types("rest-lr") {
            return Err(ConfigError::Unread {
                option: "rest-lr",
                readers: "--optimizer muon".to_owned(),
                got: format!("--optimizer {}", kind.name()),
            });
        }
        Ok(())
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

    /// How pictures of a folder become images.
    pub fn pictures(&self) -> PictureOptions {
        let usual = PictureOptions::default();
        PictureOptions {
            side: self.image_size.unwrap_or(usual.side),
            skip_bad: self.skip_bad,
            cache_memory: self.cache_memory,
        }
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
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

    /// Refuses settings that do not fit together or would be too long to read back. The range of each number is
    /// checked when it is parsed, see [`arguments`].
    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(replicas) = self.replicas.and_then(ReplicaChoice::count) {
            check_split(self.batch_size, replicas)?;
        }
        if self.lr_schedule != ScheduleChoice::Step && !self.lr_drops.is_empty() {
            return Err(ConfigError::Drops {
                drops: self.lr_drops.to_string(),
                schedule: self.lr_schedule.name(),
            });
        }
        if self.mixup > 0.0 && self.cutmix > 0.0 {
            return Err(ConfigError::TwoMixes);
        }
        self.check_network()?;
        self.check_pictures()?;
        if let Some(per_epoch) = self.steps_per_epoch {
            self.check_warmup(per_epoch)?;
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

    /// Refuses numbers of which there is no network, layers to freeze that it does not have, and a first convolution that
    /// cannot whiten.
    fn check_network(&self) -> Result<(), ConfigError> {
        let network = self.network();
        let stem = network.architecture()?.stem;
        let freezable = network.freezable()?;
        if let Some(got) = &self.freeze_until
            && !freezable.contains(got)
        {
            return Err(ConfigError::FreezeUntil {
                expected: freezable.join(", "),
                network: network.to_string(),
                got: got.clone(),
            });
        }
        if self.whiten && !whitening::makes(stem.side, stem.filters) {
            return Err(ConfigError::Whiten {
                network: network.to_string(),
                side: stem.side,
                filters: stem.filters,
            });
        }
        Ok(())
    }

    /// Refuses settings for pictures that their images cannot have, or that are for another data set.
    fn check_pictures(&self) -> Result<(), ConfigError> {
        let has_pictures = self.dataset.has_pictures();
        let misplaced = |option, expected, got| ConfigError::Value {
            option,
            expected,
            got,
        };
        if self.skip_bad && !has_pictures {
            return Err(misplaced(
                "skip-bad",
                "no such option but with --dataset folder or parquet: other data sets have no pictures to leave out",
                "true".to_owned(),
            ));
        }
        if let (Some(size), false) = (self.cache_memory, has_pictures) {
            return Err(misplaced(
                "cache-memory",
                "no such option but with --dataset folder or parquet: other data sets have no pictures to decode",
                size.to_string(),
            ));
        }
        match self.image_size {
            Some(side) if has_pictures => check_side(self.network(), side),
            Some(side) => Err(misplaced(
                "image-size",
                "no such option but with --dataset folder or parquet: the images of other data sets have one size",
                side.to_string(),
            )),
            None => Ok(()),
        }
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

    /// Refuses a warm-up that does not end before the last of all epochs of `per_epoch` steps does.
    pub fn check_warmup(&self, per_epoch: u64) -> Result<(), ConfigError> {
        let all = self.all_steps(per_epoch);
        if self.warmup < all {
            return Ok(());
        }
        Err(ConfigError::Warmup {
            warmup: self.warmup,
            all,
            epochs: self.epochs,
            per_epoch,
        })
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

/// The settings that give some kinds of network their numbers.
const BY_MODEL: [&str; 4] = ["depth", "widths", "stage-units", "block"];

/// The error for `option`, one of `BY_MODEL`, which `model` does not read.
pub fn unread_by_model(option: &'static str, model: NetworkKind) -> ConfigError {
    ConfigError::Unread {
        option,
        readers: format!("--model {}", NetworkKind::readers(option)),
        got: format!("--model {}", model.row().name),
    }
}

/// Refuses images of `side` rows and columns that `network` cannot halve as often as it does.
pub fn check_side(network: Network, side: usize) -> Result<(), ConfigError> {
    let reduction = network.architecture()?.reduction();
    if side.is_multiple_of(reduction) {
        return Ok(());
    }
    Err(ConfigError::ImageSide {
        side,
        network: network.to_string(),
        reduction,
    })
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

/// Divides `dataset` by `held_out` and `seed`.
///
/// # Errors
/// Less than a batch is left to train on, or nothing is there to validate on.
pub fn divide(
    dataset: Dataset,
    held_out: HeldOut,
    seed: u64,
    batch_size: usize,
) -> Result<RunImages, ConfigError> {
    let training = dataset.train.len();
    let count = held_out.count(training);
    let left = training.saturating_sub(count);
    if count > 0 && left < batch_size {
        return Err(ConfigError::ValidationSplit {
            held_out,
            left,
            training,
            batch_size,
        });
    }
    let images = dataset.divide(count, seed);
    if images.validation.split.is_empty() {
        return Err(ConfigError::NoValidation {
            dataset: images.name,
            training,
        });
    }
    Ok(images)
}

/// `path` as an absolute path, if that is valid UTF-8 and so can be saved.
fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.to_str().is_some() => absolute,
        _ => path.to_owned(),
    }
}
