//! The options of `bench`.

use std::path::PathBuf;

use clap::Args;

use super::network::NetworkArgs;
use crate::cli::options::DeviceArgs;
use crate::data::Augment;
use crate::model::choose::LoweringChoice;
use crate::model::optimisers::OptimiserKind;
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Time the input pipeline instead: decode, augment and normalise, on one thread
    #[arg(long, group = "pipeline", conflicts_with_all = ["model", "depth", "widths", "stage_units", "block", "classes", "optimizer", "steps", "warmup", "init_weights"])]
    pub input: bool,

    /// Time it on the pictures in this folder, of any size, instead of noise; they become images of --image-size
    #[arg(long, value_name = "DIR", requires = "input")]
    pub pictures: Option<PathBuf>,

    /// Time the host's side of training instead: batches from the usual threads, first for an imaginary
    /// device that needs no time, then copied to the real one
    #[arg(long, group = "pipeline", conflicts_with_all = ["model", "depth", "widths", "stage_units", "block", "image_size", "classes", "optimizer", "steps", "warmup", "init_weights"])]
    pub host: bool,

    /// Time each operation of the step by itself: as CPU kernels and as XLA operations
    #[arg(long, conflicts_with_all = ["pipeline", "model", "image_size", "classes", "optimizer", "lowering", "replicas", "plugin"])]
    pub ops: bool,

    /// Do it on each instruction set that the processor has, one after the other; with --json an object for each
    #[arg(long, requires = "ops")]
    pub all_sets: bool,

    /// Formulation of the step for the compiler [default: the best for the device]
    #[arg(long, conflicts_with = "pipeline")]
    pub lowering: Option<LoweringChoice>,

    /// Augmentation of the images
    #[arg(long, default_value = "keras", requires = "pipeline")]
    pub augment: Augment,

    /// Epochs of 50,000 images, or of all --pictures, to time
    #[arg(long, default_value_t = 10, requires = "pipeline", value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub epochs: u32,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Images in a step
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: u32,

    /// Steps to time, or with --ops, runs of each operation
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub steps: u32,

    /// Warm-up steps, not timed; the first one touches memory that is new to the process
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub warmup: u32,

    /// Update rule of the weights [default: that of the preset that trains the model]
    #[arg(long)]
    pub optimizer: Option<OptimiserKind>,

    /// Start from these weights (.safetensors) instead of random ones
    #[arg(long, value_name = "FILE")]
    pub init_weights: Option<PathBuf>,

    /// Time the traced training step in this folder, which `export --program` wrote
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pipeline", "ops", "lowering", "model", "widths", "depth", "stage_units", "block", "classes", "image_size", "batch_size", "optimizer", "precision", "units"])]
    pub program: Option<PathBuf>,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}
