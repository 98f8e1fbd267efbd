//! A trained network as a file for other programs.
//!
//! A format is one file here and one line in [`FORMATS`].
//!
//! | file | what reads it |
//! | --- | --- |
//! | `safetensors` | this program, and every reader of safetensors |
//! | `keras/` | Keras: the whole network, from raw pixels to logits |
//! | `onnx/` | ONNX runtimes: likewise |
//! | `stablehlo/` | XLA, JAX and IREE: likewise, for a batch of a fixed size |
//!
//! `translate` takes the last three through the layers of a network.

mod keras;
pub mod onnx;
mod safetensors;
mod stablehlo;
mod translate;

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use xla_graphs::{Layout, ResNet, TensorSpec};

use crate::model::state::HostState;
use crate::run::checkpoint::CheckpointInfo;

/// All formats.
pub static FORMATS: [Format; 4] = [
    safetensors::FORMAT,
    keras::FORMAT,
    onnx::FORMAT,
    stablehlo::FORMAT,
];

/// A kind of file to write.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// On the command line.
    pub name: &'static str,
    pub help: &'static str,
    /// Of the file's name.
    pub ending: &'static str,
    /// Whether values may be stored in bf16.
    pub takes_bf16: bool,
    /// Whether the file is for batches of one size.
    pub takes_batch_size: bool,
    /// Writes a network to a file, completely or not at all.
    pub write: fn(&Path, &Exported) -> Result<()>,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.help))
    }
}

impl Format {
    /// The format of files that end as `path` does.
    pub fn of_ending(path: &Path) -> Option<&'static Format> {
        let ending = path.extension()?;
        let fits = |format: &&Format| ending.eq_ignore_ascii_case(format.ending);
        FORMATS.iter().find(fits)
    }
}

/// A trained network, its layers and values.
pub struct Exported {
    pub info: CheckpointInfo,
    pub network: ResNet,
    pub layout: Layout,
    /// Of the tensors of [`Layout::network`].
    pub values: HostState,
    /// Whether to store values in bf16; only for a format that [takes it](Format::takes_bf16).
    pub bf16: bool,
    /// Images in a batch; only for a format that [takes it](Format::takes_batch_size).
    pub batch_size: usize,
}

impl Exported {
    /// Dimensions and values of each tensor, by its name.
    fn tensors(&self) -> HashMap<&str, (&TensorSpec, &[f32])> {
        let specs = self.layout.network().iter();
        let pairs = specs.zip(self.values.values());
        pairs
            .map(|(spec, values)| (spec.name.as_str(), (spec, values.as_slice())))
            .collect()
    }
}
