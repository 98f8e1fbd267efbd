//! The options of `import`.

use std::path::PathBuf;

use clap::Args;

use crate::data::DatasetKind;
use crate::import::Channels;
use crate::model::network::{BlockChoice, NetworkKind, StageUnits, Widths};
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The state_dict of a PyTorch module, as .safetensors
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Folder to make, with the checkpoint in it
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,

    /// Kind of network
    #[arg(long, default_value = "resnet-v2")]
    pub model: NetworkKind,

    /// Layers of the network, 9n+2
    #[arg(long, default_value_t = 164, value_name = "N", value_parser = limits::depth)]
    pub depth: usize,

    /// Channels of the stages: of the models fast and fast-deep three multiples of 16, of custom and custom-v1 one number
    /// for each of --stage-units
    #[arg(long, default_value = Widths::OF_PRESET, value_name = "A,B,C", value_parser = str::parse::<Widths>)]
    pub widths: Widths,

    /// Units of each stage of the models custom and custom-v1
    #[arg(long, default_value = StageUnits::DEFAULT, value_name = "A,B,C", value_parser = str::parse::<StageUnits>)]
    pub stage_units: StageUnits,

    /// Units of the models custom and custom-v1
    #[arg(long, value_enum, default_value = "basic")]
    pub block: BlockChoice,

    /// Rows and columns of the images that it takes [default: those of the data set; 224 of pictures for networks of
    /// version 1, else 32]
    #[arg(long, value_name = "S", value_parser = whole::<usize>(limits::IMAGE_SIZE))]
    pub image_size: Option<usize>,

    /// The images that it was trained on, which `eval` scores [default: cifar10; of networks of version 1: folder]
    #[arg(long, value_enum)]
    pub dataset: Option<DatasetKind>,

    /// A text file with the name of a class on each line [default: those of CIFAR-10 or CIFAR-100, or else numbers]
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,

    /// What is taken from red, green and blue, of pixels from 0 to 1 [default: 0.4914,0.4822,0.4465, CIFAR-10's; of networks
    /// of version 1: 0.485,0.456,0.406, ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub mean: Option<Channels>,

    /// What the rest is divided by [default: 0.2470,0.2435,0.2616; of networks of version 1: 0.229,0.224,0.225]
    #[arg(long, value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub std: Option<Channels>,
}
