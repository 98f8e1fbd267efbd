//! Parses the command line, runs it, prints the chain of causes of an error.

use std::io::Write;
use std::panic;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::Cli;
use crate::logger::Logger;
use crate::process::Process;
use crate::signals::Signals;
use crate::threads::TooFewThreads;
use crate::{commands, exit, memory, runtime};

fn main() -> u8 {
    memory::keep_freed_memory();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => exit::DONE,
        Err(error) => {
            // With stderr closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            exit::code(&error)
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let signals = Signals::catch()
        .map_err(TooFewThreads::first)
        .context("waiting for signals")?;
    runtime::quiet(cli.verbose);
    let logger = Logger::install(cli.verbose)?;
    commands::run(cli, &Process { logger, signals })
}

/// What the front (`src/front/`) calls: the whole program, on the process's command line.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn resnet_xla_main() -> ! {
    // A panic must not unwind into the front, which has a Rust runtime of its own.
    let code = panic::catch_unwind(main).unwrap_or(exit::PANIC);
    std::process::exit(code.into())
}
