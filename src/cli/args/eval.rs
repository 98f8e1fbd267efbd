//! The options of `eval`.

use std::path::PathBuf;

use clap::Args;

use super::checkpoint::CheckpointArgs;
use crate::data::Tta;
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct EvalArgs {
    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Images in a step [default: 128, or those of --program]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: Option<u32>,

    /// Score only the first N batches [default: all test images]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(limits::STEPS))]
    pub steps: Option<u64>,

    /// Average the logits over views of each image, and print the accuracy of that too
    #[arg(long, value_enum, default_value = "none")]
    pub tta: Tta,

    /// Write the logits of all scored images, `[N, 10]` f32, as a NumPy file; without --tta's other views
    #[arg(long, value_name = "FILE.npy")]
    pub dump_logits: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}
