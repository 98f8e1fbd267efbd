//! Refuses settings of a run that do not fit together, or do not fit its data.

use crate::cli::args::TrainArgs;
use crate::cli::config::{Config, ConfigError};
use crate::cli::config_file;
use crate::data::{Dataset, HeldOut, RunImages};
use crate::device::replicas::ReplicaChoice;
use crate::model::network::{Network, NetworkKind};
use crate::model::optimisers::OptimiserKind;
use crate::model::whitening;
use crate::run::schedule::ScheduleChoice;

impl Config {
    /// Refuses options that nothing reads, where the user typed them: in a file or the environment they may be meant for
    /// other runs.
    pub(super) fn check_is_read(&self, args: &TrainArgs) -> Result<(), ConfigError> {
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

    /// Refuses settings that do not fit together or would be too long to read back. The range of each number is
    /// checked when it is parsed, see [`arguments`](crate::cli::arguments).
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
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

    /// Refuses to cut squares out of images of `side` rows and columns that are larger than these.
    pub fn check_cutout(&self, side: usize) -> Result<(), ConfigError> {
        let cutout = self.cutout;
        match cutout <= side {
            true => Ok(()),
            false => Err(ConfigError::Cutout { cutout, side }),
        }
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
