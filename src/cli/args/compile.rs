//! The options of `compile`.

use std::path::PathBuf;

use clap::Args;

use super::network::NetworkArgs;
use crate::compile::Step;
use crate::compile::target::Target;
use crate::model::choose::{BatchNormMode, PrecisionChoice, UnitsChoice};
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Chips to compile for: v4, v5e, v5p or v6e with their topology, such as v5e:2x4; or cpu
    #[arg(long, value_name = "TARGET")]
    pub target: Target,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Images per chip in a step
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_per_chip: u32,

    /// Number format of activations and kernels [default: bf16 on TPU, f32 on CPU]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// How equal units are traced: a loop compiles equally fast at any depth [default: unrolled]
    #[arg(long)]
    pub units: Option<UnitsChoice>,

    /// Statistics of batch normalisation: over all chips, or each chip's own [default: sync]
    #[arg(long)]
    pub bn: Option<BatchNormMode>,

    /// Computation to compile
    #[arg(long, default_value = "train")]
    pub step: Step,

    /// The compiler: a PJRT plugin [default: libtpu, or the CPU plugin, where ./setup puts it]
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,

    /// Save the optimised program (HLO) and the report in this folder
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,

    /// Save the compiled computation in this file, for --load-executable on a machine that has the chips
    #[arg(long, value_name = "FILE")]
    pub save_executable: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
