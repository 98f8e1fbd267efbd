//! The subcommands, one file each.

pub mod bench;
#[cfg(feature = "trace")]
mod compile;
mod doctor;
mod eval;
mod export;
mod export_program;
mod fetch;
mod import;
mod inputs;
mod network;
mod output;
mod plot;
pub mod predict;
mod report;
mod runs;
mod shell;
mod summary;
mod train;
mod trained;

use anyhow::Result;

use crate::cli::args::{Cli, Command};
use crate::device::processes::{Asked, Processes};
#[cfg(not(feature = "trace"))]
use crate::model::tracing;
use crate::system::process::Process;

/// Runs the command given on the command line, or trains if there is none.
pub fn run(cli: &Cli, process: &Process) -> Result<()> {
    if let Some(command) = cli.command.as_ref().and_then(in_one_process) {
        // Variables of something that is no launcher do not matter here.
        let here = Processes::here(Asked::default());
        here.map_or(Ok(()), |here| here.check_alone(command))?;
    }
    match &cli.command {
        None => train::run(&cli.train, process),
        Some(Command::Train(args)) => train::run(args, process),
        Some(Command::Fetch(args)) => fetch::run(args),
        Some(Command::Summary(args)) => summary::run(args),
        Some(Command::Eval(args)) => eval::run(args),
        Some(Command::Predict(args)) => predict::run(args, process),
        Some(Command::Plot(args)) => plot::run(args),
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Runs(args)) => runs::run(args),
        Some(Command::Export(args)) => export::run(args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        #[cfg(feature = "trace")]
        Some(Command::Compile(args)) => compile::run(args),
        #[cfg(not(feature = "trace"))]
        Some(Command::Compile(_)) => Ok(tracing::check("compile")?),
        Some(Command::Doctor(args)) => doctor::run(args),
        Some(Command::Completions(args)) => shell::completions(args),
        Some(Command::Man(args)) => shell::man(args),
    }
}

/// The name of a command that computes or writes and does not share its work with other processes.
fn in_one_process(command: &Command) -> Option<&'static str> {
    match command {
        Command::Eval(_) => Some("eval"),
        Command::Predict(_) => Some("predict"),
        Command::Report(_) => Some("report"),
        Command::Bench(_) => Some("bench"),
        _ => None,
    }
}
