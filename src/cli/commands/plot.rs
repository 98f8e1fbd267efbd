//! `plot`: the curves of one or more runs in the same axes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::output::stdout;
use crate::cli::args::PlotArgs;
use crate::cli::outputs::{self, Named};
use crate::run::history::History;
use crate::run::run_dir::RunDir;
use crate::show::plot::{self, Quantity, Run};
use crate::system::text::shown;

const PLOTS: [(Quantity, &str); 2] = [(Quantity::Accuracy, "accuracy"), (Quantity::Loss, "loss")];

pub fn run(args: &PlotArgs) -> Result<()> {
    check_outputs(args)?;
    let mut runs = Vec::new();
    for path in &args.runs {
        runs.push((shown(path), History::read(&history_of(path))?));
    }
    let runs: Vec<Run> = runs
        .iter()
        .map(|(name, history)| Run {
            name,
            records: history.records(),
        })
        .collect();
    std::fs::create_dir_all(&args.out_dir)
        .with_context(|| format!("cannot make the folder {}", args.out_dir.display()))?;
    for (quantity, name) in PLOTS {
        let stem = args.out_dir.join(name);
        plot::save(&stem, quantity, &runs)?;
        writeln!(stdout(), "{0}.png\n{0}.svg", shown(&stem))?;
    }
    Ok(())
}

/// The history file for `path`: `path` itself, or the history of the run that a folder or checkpoint belongs to.
fn history_of(path: &Path) -> PathBuf {
    let is_checkpoint = path.extension().is_some_and(|found| found == "safetensors");
    if path.is_dir() || is_checkpoint {
        RunDir::around(path)
            .unwrap_or_else(|| RunDir::of(path))
            .history()
    } else {
        path.to_owned()
    }
}

/// Refuses plots that would overwrite a history.
fn check_outputs(args: &PlotArgs) -> Result<()> {
    let histories = args
        .runs
        .iter()
        .map(|path| Named::new("RUN", history_of(path)));
    let histories: Vec<_> = histories.collect();
    for (_, name) in PLOTS {
        for ending in ["png", "svg"] {
            let plot = args.out_dir.join(name).with_extension(ending);
            outputs::keep_inputs(&Named::new("--out-dir", plot), &histories)?;
        }
    }
    Ok(())
}
