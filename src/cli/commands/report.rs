//! `report`: writes the page of a run again, from its folder and its newest checkpoint, or one that compares runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::inputs;
use super::output::stdout;
use super::trained;
use crate::cli::args::{CheckpointArgs, ReportArgs};
use crate::cli::config::ConfigError;
use crate::cli::outputs::{Named, Output};
use crate::data::{Batch, BatchSource, RunImages};
use crate::predict::trained::{Trained, load};
use crate::run::evaluate::evaluate;
use crate::run::run_dir::{RunDir, RunDirError};
use crate::show::report::{self, Scored};
use crate::system::text::shown;

const BATCH_SIZE: usize = 128;
/// The page that compares runs, if `--out` names no other.
const COMPARISON: &str = "comparison.html";

pub fn run(args: &ReportArgs) -> Result<()> {
    let out = args.out.as_deref();
    match args.runs.as_slice() {
        [] => of_run(&args.from, out),
        [run] => {
            let from = CheckpointArgs {
                checkpoint: run.clone(),
                ..args.from.clone()
            };
            of_run(&from, out)
        }
        runs => match args.named.0.first() {
            None => compare(runs, out.unwrap_or(Path::new(COMPARISON))),
            Some(option) => Err(ConfigError::OfOneRun {
                option: option.clone(),
            }
            .into()),
        },
    }
}

fn of_run(from: &CheckpointArgs, out: Option<&Path>) -> Result<()> {
    let run_dir = RunDir::around(&from.checkpoint);
    if let Some(out) = out {
        check_output(from, out, run_dir.as_ref())?;
    }
    let checkpoint = trained::find(from)?;
    let run_dir = run_dir.ok_or_else(|| no_run(&from.checkpoint))?;
    let path = out.map_or_else(|| run_dir.report(), Path::to_owned);
    let folder = trained::program_folder(from)?;
    let device = trained::open_device(from, folder.as_ref())?;
    let RunImages {
        spec, validation, ..
    } = trained::load_images(from, &checkpoint.info)?;
    let batch_size = trained::batch_size(BATCH_SIZE, &device, folder.as_ref());
    let options = trained::options(from);
    let Trained { program, weights } = load(&checkpoint, &options, batch_size, &device, folder)?;
    let source = Arc::new(BatchSource::evaluation(
        Arc::clone(&validation.split),
        checkpoint.info.normalization,
        batch_size,
    ));
    let start = |batch: &Batch| program.eval_step(&weights, batch);
    let steps = source.steps_per_epoch();
    let evaluation = evaluate(&source, steps, start, |rows| Ok(Some(rows)))?;
    let evaluation = evaluation.context("the evaluation ended early")?;
    let scored = Scored::of(&evaluation, &spec, &validation);
    report::write(&path, &run_dir, &scored, &spec, &validation, None)?;
    writeln!(stdout(), "report: {}", shown(&path))?;
    Ok(())
}

/// Writes the page that compares `runs` to `path`.
fn compare(runs: &[PathBuf], path: &Path) -> Result<()> {
    let mut folders = Vec::new();
    let mut inputs = Vec::new();
    for run in runs {
        let folder =
            RunDir::around(run).ok_or_else(|| RunDirError::NotARun { path: run.clone() })?;
        inputs.extend(
            folder
                .files()?
                .into_iter()
                .map(|file| Named::new("RUN", file)),
        );
        folders.push((run.display().to_string(), folder));
    }
    page(path).check(&inputs)?;
    report::compare(path, &folders)?;
    writeln!(stdout(), "report: {}", shown(path))?;
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
fn check_output(from: &CheckpointArgs, path: &Path, run_dir: Option<&RunDir>) -> Result<()> {
    let report = run_dir.map(RunDir::report);
    let mut inputs = inputs::of(from);
    inputs.retain(|input| Some(&input.path) != report.as_ref());
    Ok(page(path).check(&inputs)?)
}

fn page(path: &Path) -> Output<'_> {
    Output {
        by: "--out",
        path,
        ending: "html",
    }
}
