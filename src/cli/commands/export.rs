//! `export`: writes a checkpoint's weights and moving statistics to a separate file.

use std::io::Write;

use anyhow::Result;
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

use super::inputs;
use super::output::stdout;
use crate::cli::args::ExportArgs;
use crate::cli::config::ConfigError;
use crate::cli::outputs::Output;
use crate::model::summary::grouped;
use crate::run::checkpoint;
use crate::system::text::shown;

pub fn run(args: &ExportArgs) -> Result<()> {
    let output = Output {
        by: "--out",
        path: &args.out,
        ending: "safetensors",
        note: " (scripts/keras_weights.py converts it to .keras or .h5)",
    };
    output.check(&inputs::of_checkpoint(&args.checkpoint))?;
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    // The lowering changes how the network is computed, not its structure.
    let architecture = Architecture::resnet_v2(info.depth).map_err(ConfigError::from)?;
    let network = ResNet::new(&architecture, info.spec.classes(), Lowering::Native)
        .map_err(ConfigError::from)?;
    let layout = Layout::new(network.tensors(), &[]);
    let weights = checkpoint::load_network(&path, &layout)?;
    checkpoint::save_network(&args.out, &layout, &weights, &info)?;
    writeln!(
        stdout(),
        "{}: depth {}, step {}, {} tensors, {} parameters",
        shown(&args.out),
        info.depth,
        info.position.step,
        layout.network().len(),
        grouped(layout.total_parameters())
    )?;
    Ok(())
}
