//! Parses the command line, runs it, prints the chain of causes of an error.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use resnet_xla::cli::Cli;
use resnet_xla::logger::Logger;
use resnet_xla::process::Process;
use resnet_xla::signals::Signals;
use resnet_xla::{arguments, commands, exit, memory, runtime, variables};

fn main() -> ExitCode {
    memory::keep_freed_memory();
    let cli = arguments::of_this_process();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(exit::code(&error))
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let signals = Signals::catch().context("waiting for signals")?;
    runtime::quiet(cli.verbose);
    let logger = Logger::install(cli.verbose)?;
    variables::warn_of_unknown(std::env::vars_os().map(|(name, _)| name));
    commands::run(cli, &Process { logger, signals })
}
