//! What is wrong with a setting.

use std::path::PathBuf;

use crate::data::HeldOut;
use crate::model::program_folder::ProgramFolderError;

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
        "--{option} (or {variable} in the environment): {} is not UTF-8, so it cannot be saved in \
         config.toml; use another path",
        .path.display()
    )]
    NotText {
        option: &'static str,
        variable: String,
        path: PathBuf,
    },
    #[error(transparent)]
    Program(#[from] ProgramFolderError),
    #[error("the settings cannot be saved in config.toml: {reason}")]
    Unsavable { reason: String },
    #[error(
        "--batch-size {batch_size} cannot be split evenly over {replicas} replicas; take \
         --batch-size {}, or another --replicas", .batch_size.next_multiple_of(*.replicas)
    )]
    Split { batch_size: usize, replicas: usize },
    #[error(
        "--lr-drops {drops} goes with --lr-schedule step, and the schedule is {schedule}; leave --lr-drops out, or set \
         it to none"
    )]
    Drops {
        drops: String,
        schedule: &'static str,
    },
    #[error(
        "--{option} is for {readers} alone, and here it is {got}: nothing would read it; leave it out"
    )]
    Unread {
        option: &'static str,
        readers: String,
        got: String,
    },
    #[error(
        "--freeze-until: expected one of {expected} (the layers of {network} that can be frozen), got {got}"
    )]
    FreezeUntil {
        expected: String,
        network: String,
        got: String,
    },
    #[error(
        "--whiten: expected a first convolution of 3x3 with at most 54 filters, an even number; that of {network} is \
         {side}x{side} with {filters}. Take --whiten false"
    )]
    Whiten {
        network: String,
        side: usize,
        filters: usize,
    },
    #[error("--mixup and --cutmix do not go together; set one of them to 0")]
    TwoMixes,
    #[error(
        "--cutout: expected 0 to {side}, since images have {side} x {side} pixels, got {cutout}"
    )]
    Cutout { cutout: usize, side: usize },
    #[error(
        "--warmup: expected 0 to {}, fewer than the {all} steps of {epochs} epochs of {per_epoch} steps, got {warmup}; \
         take fewer, or more --epochs", .all - 1
    )]
    Warmup {
        warmup: u64,
        /// Of all epochs.
        all: u64,
        epochs: usize,
        per_epoch: u64,
    },
    #[error(
        "--validation-split {held_out} leaves {left} of {training} training images to train on, expected at least a batch \
         of {batch_size}; take --validation-split {} or less, or a smaller --batch-size",
        .training.saturating_sub(*.batch_size)
    )]
    ValidationSplit {
        held_out: HeldOut,
        left: usize,
        training: usize,
        batch_size: usize,
    },
    #[error(
        "--validation-split: the data set `{dataset}` has {training} training images and none to validate on; take a share \
         of them, such as --validation-split 0.1, or put others into folders `val` and `train` side by side"
    )]
    NoValidation { dataset: String, training: usize },
    #[error(
        "images of {side} x {side} pixels do not fit the network {network}, which makes them smaller by {reduction}: \
         expected a multiple of {reduction}; take --image-size {} for a folder of pictures",
        .side.next_multiple_of(*.reduction)
    )]
    ImageSide {
        side: usize,
        network: String,
        reduction: usize,
    },
    #[error("--index: expected 0 to {last}, got {got}")]
    Index { got: usize, last: usize },
    #[error(
        "--{option} is for the page of one run; a comparison of several is made from what is in their folders, so leave \
         it out"
    )]
    OfOneRun { option: String },
    #[error("there is no command `{got}`; --help lists them")]
    Command { got: String },
    #[error(
        "--resume: `{field}` was {saved} and is now {now}; the weights depend on it, so a resumed run \
         cannot change it. Leave it out, or start a new run with another --out-dir"
    )]
    Differs {
        field: String,
        saved: String,
        now: String,
    },
    #[error(
        "--resume: {folder} holds no checkpoint to resume from; start the run without --resume, and in \
         another --out-dir if this one holds anything (--overwrite deletes what a run left in it)"
    )]
    NothingToResume { folder: PathBuf },
    #[error(
        "--resume: nothing intact is left in {folder} to resume from: {config}; {checkpoint}. Restore one \
         of them"
    )]
    NothingWhole {
        folder: PathBuf,
        config: String,
        checkpoint: String,
    },
    #[error("process 0, on {host}, whose folder of the run counts, cannot go on with it: {reason}")]
    OfFirst { host: String, reason: String },
    #[error(transparent)]
    Depth(#[from] xla_graphs::GraphError),
}

impl ConfigError {
    pub fn unsavable(reason: impl ToString) -> Self {
        Self::Unsavable {
            reason: reason.to_string(),
        }
    }
}
