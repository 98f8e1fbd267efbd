//! `export`: a checkpoint's weights and moving statistics as a file of their own.

use std::io::Write;

use anyhow::Result;
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

use super::output::stdout;
use crate::checkpoint;
use crate::cli::ExportArgs;
use crate::config::ConfigError;
use crate::data::CLASSES;
use crate::summary::grouped;

const EXTENSION: &str = "safetensors";

pub fn run(args: &ExportArgs) -> Result<()> {
    if args.out.extension().is_none_or(|found| found != EXTENSION) {
        return Err(ConfigError::Value {
            option: "out",
            expected: "a name that ends in .safetensors (scripts/keras_weights.py makes a .keras or .h5 file of it)",
            got: args.out.display().to_string(),
        }
        .into());
    }
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    // The lowering changes how the network is computed, not what it is.
    let architecture = Architecture::resnet_v2(info.depth).map_err(ConfigError::from)?;
    let network =
        ResNet::new(&architecture, CLASSES, Lowering::Native).map_err(ConfigError::from)?;
    let layout = Layout::new(network.tensors(), &[]);
    let weights = checkpoint::load_network(&path, &layout)?;
    checkpoint::save_network(&args.out, &layout, &weights, &info)?;
    writeln!(
        stdout(),
        "{}: depth {}, step {}, {} tensors, {} parameters",
        args.out.display(),
        info.depth,
        info.position.step,
        layout.network().len(),
        grouped(layout.total_parameters())
    )?;
    Ok(())
}
