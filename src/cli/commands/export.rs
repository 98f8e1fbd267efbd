//! `export`: writes a checkpoint's weights and moving statistics to a separate file, or a run's computations to a folder.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use safetensors::Dtype;

use super::export_program;
use super::inputs;
use super::output::stdout;
use crate::cli::args::ExportArgs;
use crate::cli::config::ConfigError;
use crate::cli::config_file::without_paths;
use crate::cli::outputs::Output;
use crate::model::summary::grouped;
use crate::run::checkpoint::{self, CheckpointInfo};
use crate::system::text::shown;

pub fn run(args: &ExportArgs) -> Result<()> {
    match (&args.program.program, &args.out) {
        (Some(folder), _) => export_program::run(args, folder),
        (None, Some(out)) => weights(args, out),
        (None, None) => anyhow::bail!("expected --out or --program"),
    }
}

fn weights(args: &ExportArgs, out: &Path) -> Result<()> {
    let output = Output {
        by: "--out",
        path: out,
        ending: "safetensors",
        note: " (scripts/keras_weights.py converts it to .keras or .h5)",
    };
    output.check(&inputs::of_checkpoint(&args.checkpoint))?;
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    let layout = info.network().layout(info.spec.classes(), &[]);
    let layout = layout.map_err(ConfigError::from)?;
    let weights = checkpoint::load_chosen(&path, &layout, &info, args.weights)?;
    let info = CheckpointInfo {
        config: without_paths(&info.config),
        averages: false,
        ..info
    };
    let dtype = if args.bf16 { Dtype::BF16 } else { Dtype::F32 };
    checkpoint::save_network(out, &layout, &weights, &info, dtype)?;
    writeln!(
        stdout(),
        "{}: {}, step {}, {} tensors, {} parameters",
        shown(out),
        info.network(),
        info.position.step,
        layout.network().len(),
        grouped(layout.total_parameters())
    )?;
    Ok(())
}
