//! The options that name a network, for commands that need no run.

use clap::Args;

use crate::model::network::{BlockChoice, NetworkKind, StageUnits, Widths};
use crate::system::limits::{self, whole};

/// The network of commands that need no run.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Kind of network
    #[arg(long, default_value = "resnet-v2")]
    pub model: NetworkKind,

    /// Layers of resnet-v2, 9n+2 [default: 164]
    #[arg(long, value_name = "N", value_parser = limits::depth)]
    pub depth: Option<usize>,

    /// Channels of the stages: of the models fast and fast-deep three multiples of 16, of custom and custom-v1 one number
    /// for each of --stage-units [default: 128,256,384 for fast, 128,384,384 for fast-deep, 16,32,64 for the others]
    #[arg(long, value_name = "A,B,C", value_parser = str::parse::<Widths>)]
    pub widths: Option<Widths>,

    /// Units of each stage of the models custom and custom-v1 [default: 2,2,2]
    #[arg(long, value_name = "A,B,C", value_parser = str::parse::<StageUnits>)]
    pub stage_units: Option<StageUnits>,

    /// Units of the models custom and custom-v1 [default: basic]
    #[arg(long)]
    pub block: Option<BlockChoice>,

    /// Rows and columns of the images [default: 32, or 224 for the layouts for ImageNet and for `bench --pictures`]
    #[arg(long, value_name = "S", value_parser = whole::<usize>(limits::IMAGE_SIZE))]
    pub image_size: Option<usize>,

    /// Classes [default: 10, or 1000 for the layouts for ImageNet]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(limits::CLASSES))]
    pub classes: Option<usize>,
}
