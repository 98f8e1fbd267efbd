//! `report`: writes the page of a run again, from its folder and its newest checkpoint.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::inputs;
use super::output::stdout;
use super::trained::{self, Trained};
use crate::cli::args::ReportArgs;
use crate::cli::config::ConfigError;
use crate::cli::outputs::Output;
use crate::data::{BatchSource, RunImages};
use crate::run::evaluate::evaluate;
use crate::run::run_dir::RunDir;
use crate::show::report;
use crate::system::text::shown;

const BATCH_SIZE: usize = 128;

pub fn run(args: &ReportArgs) -> Result<()> {
    let run_dir = RunDir::around(&args.from.checkpoint);
    if let Some(out) = &args.out {
        check_output(args, out, run_dir.as_ref())?;
    }
    let checkpoint = trained::find(&args.from)?;
    let run_dir = run_dir.ok_or_else(|| no_run(&args.from.checkpoint))?;
    let path: PathBuf = args.out.clone().unwrap_or_else(|| run_dir.report());
    let folder = trained::program_folder(&args.from)?;
    let device = trained::open_device(&args.from, folder.as_ref())?;
    let RunImages {
        spec, validation, ..
    } = trained::load_images(&args.from, &checkpoint.info)?;
    let batch_size = trained::batch_size(BATCH_SIZE, &device, folder.as_ref());
    let Trained { program, weights } =
        trained::load(&checkpoint, &args.from, batch_size, &device, folder)?;
    let source = Arc::new(BatchSource::evaluation(
        Arc::clone(&validation.split),
        checkpoint.info.normalization,
        batch_size,
    ));
    let evaluation = evaluate(&source, source.steps_per_epoch(), |batch| {
        program.eval_step(&weights, batch).map(Some)
    })?
    .context("the evaluation ended early")?;
    report::write(&path, &run_dir, &evaluation, &spec, &validation)?;
    writeln!(stdout(), "report: {}", shown(&path))?;
    Ok(())
}

/// The error for a `checkpoint` outside a run's folder: most of the page comes from the run's other files.
fn no_run(checkpoint: &Path) -> ConfigError {
    ConfigError::Value {
        option: "checkpoint",
        expected: "the folder of a run, with its config.toml, or a checkpoint in such a folder (`eval` scores a file alone)",
        got: checkpoint.display().to_string(),
    }
}

/// Refuses an output that would overwrite an input. The run's own report does not count as an input.
fn check_output(args: &ReportArgs, path: &Path, run_dir: Option<&RunDir>) -> Result<()> {
    let report = run_dir.map(RunDir::report);
    let mut inputs = inputs::of(&args.from);
    inputs.retain(|input| Some(&input.path) != report.as_ref());
    let output = Output {
        by: "--out",
        path,
        ending: "html",
        note: "",
    };
    Ok(output.check(&inputs)?)
}
