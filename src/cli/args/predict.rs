//! The options of `predict`.

use std::path::PathBuf;

use clap::Args;

use super::checkpoint::CheckpointArgs;
use crate::system::limits::{self, whole};

#[derive(Args, Debug)]
pub struct PredictArgs {
    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Pictures to classify (PNG, JPEG, WebP or BMP), or folders of them: rotated as their EXIF says, transparency
    /// replaced by white, cropped to the largest central square, resized to the network's size [default: the first ten
    /// test images]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Test images to classify, by index from 0
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = whole::<usize>(limits::TEST_INDEX),
        conflicts_with = "images"
    )]
    pub index: Vec<usize>,

    /// Where to write the picture of the predictions (of the first 100 if there are more)
    #[arg(long, default_value = "predictions.png", value_name = "FILE.png")]
    pub out: PathBuf,

    /// Print JSON instead of a table: an array, or with --json=lines a line for each image
    #[arg(
        long,
        group = "form",
        value_enum,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "array"
    )]
    pub json: Option<JsonForm>,

    /// The same as --json=lines
    #[arg(long, group = "form")]
    pub jsonl: bool,

    /// Print comma-separated values instead of a table: three classes with their probabilities
    #[arg(long, group = "form")]
    pub csv: bool,
}

/// How results are printed as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum JsonForm {
    /// One indented array
    Array,
    /// A line for each image, when its batch is done
    Lines,
}
