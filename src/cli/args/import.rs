//! The options of `import`.

use std::path::PathBuf;

use clap::Args;

use crate::data::DatasetKind;
use crate::import::Channels;
use crate::model::network::{NetworkKind, Widths};
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

    /// Channels of the three stages of the model fast, multiples of 16
    #[arg(long, default_value = Widths::OF_PRESET, value_name = "A,B,C", value_parser = str::parse::<Widths>)]
    pub widths: Widths,

    /// Rows and columns of the images that it takes
    #[arg(long, default_value_t = 32, value_name = "S", value_parser = whole::<usize>(limits::IMAGE_SIZE))]
    pub image_size: usize,

    /// The images that it was trained on, which `eval` scores
    #[arg(long, value_enum, default_value = "cifar10")]
    pub dataset: DatasetKind,

    /// A text file with the name of a class on each line [default: those of CIFAR-10 or CIFAR-100, or else numbers]
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,

    /// What is taken from red, green and blue, of pixels from 0 to 1
    #[arg(long, default_value = "0.4914,0.4822,0.4465", value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub mean: Channels,

    /// What the rest is divided by
    #[arg(long, default_value = "0.2470,0.2435,0.2616", value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub std: Channels,
}
