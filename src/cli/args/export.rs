//! The options of `export`.

use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceKind;
use crate::export::Format;
use crate::run::checkpoint::WeightsChoice;
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// A .safetensors file, or a run's folder (its newest checkpoint)
    #[arg(long, default_value = "runs/keras", value_name = "PATH")]
    pub checkpoint: PathBuf,

    /// Which weights of the run to take [default: average, if the run has one]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub weights: Option<WeightsChoice>,

    /// The file to write
    #[arg(long, value_name = "FILE", required_unless_present = "program")]
    pub out: Option<PathBuf>,

    /// What to write [default: as the name of the file ends]
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Store the values in bf16: half as many bytes, 8 instead of 24 significant bits; safetensors only
    #[arg(long)]
    pub bf16: bool,

    /// Images that the program takes at once; stablehlo only [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: Option<u32>,

    #[command(flatten)]
    pub program: ExportProgramArgs,
}

#[derive(Args, Debug)]
pub struct ExportProgramArgs {
    /// Write the traced computations of the run to this folder instead, for --program of train, eval, predict and
    /// report
    #[arg(long, value_name = "DIR", requires = "on", conflicts_with_all = ["out", "format", "bf16", "batch_size", "weights"])]
    pub program: Option<PathBuf>,

    /// The devices that will run them
    #[arg(long, value_enum, value_name = "KIND", requires = "program")]
    pub on: Option<DeviceKind>,

    /// Devices that share each batch [default: 1, or what --settings say]
    #[arg(long, value_name = "N", requires = "program", value_parser = whole::<usize>(limits::REPLICAS))]
    pub replicas: Option<usize>,

    /// A TOML file with settings of a run, as for `train -c` [default: those of --checkpoint]
    #[arg(
        long,
        value_name = "FILE",
        requires = "program",
        conflicts_with = "checkpoint"
    )]
    pub settings: Option<PathBuf>,
}
