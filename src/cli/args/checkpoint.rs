//! The options that name trained weights.

use std::path::PathBuf;

use clap::Args;

use crate::cli::options::{DataArgs, DeviceArgs};
use crate::run::checkpoint::WeightsChoice;

/// The run that commands use which name no other.
pub const DEFAULT_RUN: &str = "runs/keras";

/// The trained weights, and the device and data to run them on.
#[derive(Args, Clone, Debug)]
pub struct CheckpointArgs {
    /// A .safetensors file, or a run's folder (its newest checkpoint)
    #[arg(long, default_value = DEFAULT_RUN, value_name = "PATH")]
    pub checkpoint: PathBuf,

    /// Which weights of the run to take [default: average, if the run has one]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub weights: Option<WeightsChoice>,

    /// Run the traced computations in this folder, which `export --program` wrote
    #[arg(long, value_name = "DIR")]
    pub program: Option<PathBuf>,

    /// Load the compiled computation in this file, which `compile --save-executable` wrote, instead of compiling it; may
    /// be given again for another computation
    #[arg(long, value_name = "FILE")]
    pub load_executable: Vec<PathBuf>,

    #[command(flatten)]
    pub device: DeviceArgs,

    #[command(flatten)]
    pub data: DataArgs,
}
