//! `export`: writes the trained network of a checkpoint to a file for this program or another, or a run's computations
//! to a folder.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use xla_graphs::Layout;

use super::export_program;
use super::inputs;
use super::output::stdout;
use crate::cli::args::ExportArgs;
use crate::cli::config::ConfigError;
use crate::cli::config_file::without_paths;
use crate::cli::outputs::{Output, OutputError};
use crate::export::{Exported, FORMATS, Format};
use crate::model::summary::grouped;
use crate::run::checkpoint::{self, CheckpointInfo};
use crate::system::text::shown;

pub fn run(args: &ExportArgs) -> Result<()> {
    match (&args.program.program, &args.out) {
        (Some(folder), _) => export_program::run(args, folder),
        (None, Some(out)) => network(args, out),
        (None, None) => anyhow::bail!("expected --out or --program"),
    }
}

fn network(args: &ExportArgs, out: &Path) -> Result<()> {
    let format = format(args, out)?;
    let output = Output {
        by: "--out",
        path: out,
        ending: format.ending,
    };
    output.check(&inputs::of_checkpoint(&args.checkpoint))?;
    let exported = load(args)?;
    (format.write)(out, &exported)?;
    writeln!(
        stdout(),
        "{}: {}, step {}, {} tensors, {} parameters",
        shown(out),
        exported.info.network(),
        exported.info.position.step,
        exported.layout.network().len(),
        grouped(exported.layout.total_parameters())
    )?;
    Ok(())
}

/// The format that `args` name, or else the one that `--out` ends as.
fn format(args: &ExportArgs, out: &Path) -> Result<Format> {
    let format = args.format.or_else(|| Format::of_ending(out).copied());
    let format = format.ok_or_else(|| OutputError::NoFormat {
        by: "--out",
        endings: FORMATS
            .map(|format| format!(".{}", format.ending))
            .join(", "),
        path: out.to_owned(),
    })?;
    let misplaced = |option, expected| ConfigError::Value {
        option,
        expected,
        got: format.name.to_owned(),
    };
    if args.bf16 && !format.takes_bf16 {
        return Err(misplaced("bf16", "a format that stores it, safetensors").into());
    }
    if args.batch_size.is_some() && !format.takes_batch_size {
        return Err(misplaced("batch-size", "a format of one batch size, stablehlo").into());
    }
    Ok(format)
}

/// The network of the checkpoint that `args` name.
fn load(args: &ExportArgs) -> Result<Exported> {
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    let network = info.network().layers(info.spec.classes());
    let network = network.map_err(ConfigError::from)?;
    let layout = Layout::new(network.tensors(), &[]);
    let values = checkpoint::load_chosen(&path, &layout, &info, args.weights)?;
    let info = CheckpointInfo {
        config: without_paths(&info.config),
        averages: false,
        ..info
    };
    Ok(Exported {
        info,
        network,
        layout,
        values,
        bf16: args.bf16,
        batch_size: args.batch_size.map_or(1, |size| size as usize),
    })
}
