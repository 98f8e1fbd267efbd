//! Parses the command line, runs the command, and prints an error with its causes.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::panic;

use anyhow::{Context, Result};

use crate::cli::args::Cli;
use crate::cli::arguments;
use crate::cli::commands;
use crate::cli::exit;
use crate::cli::variables;
use crate::device::leave::{End, leave};
use crate::device::runtime;
use crate::device::threads::TooFewThreads;
use crate::system::logger::Logger;
use crate::system::memory;
use crate::system::process::Process;
use crate::system::signals::Signals;
use crate::system::text;

fn main() -> u8 {
    memory::keep_freed_memory();
    let words: Vec<OsString> = env::args_os().collect();
    let cli = match arguments::parse(&words) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(&cli) {
        Ok(()) => {
            leave(End::Agreed);
            exit::DONE
        }
        Err(error) => {
            let (code, message) = (exit::code(&error), exit::message(&error));
            if !exit::is_said_elsewhere(&error) {
                // If stderr is closed, there is nowhere to report.
                let _ = writeln!(std::io::stderr(), "error: {message}");
            }
            leave(match exit::is_shared(&error) {
                true => End::Agreed,
                false => End::Alone {
                    code,
                    reason: &message,
                },
            });
            code
        }
    }
}

/// Prints clap's error, or the help that was asked for. An error repeats the user's words, so if those contain
/// control characters, it is printed as plain, escaped text.
fn refuse(error: &clap::Error) -> u8 {
    let is_own = |name: &OsString| name.to_string_lossy().starts_with("RESNET_XLA_");
    let variables = env::vars_os().filter(|(name, _)| is_own(name));
    let mut given = env::args_os().chain(variables.map(|(_, value)| value));
    let steers = |text: OsString| text::one_line(&text.to_string_lossy()) != text.to_string_lossy();
    // If the output is closed, there is nowhere to report.
    let _ = if error.use_stderr() && given.any(steers) {
        let plain = error.render().to_string();
        write!(std::io::stderr(), "{}", text::for_terminal(&plain))
    } else {
        error.print()
    };
    // clap's own codes are 0 and 2.
    error.exit_code() as u8
}

fn run(cli: &Cli) -> Result<()> {
    let signals = Signals::catch()
        .map_err(TooFewThreads::first)
        .context("waiting for signals")?;
    runtime::quiet(cli.verbose);
    let logger = Logger::install(cli.verbose)?;
    variables::warn_of_unknown(env::vars_os().map(|(name, _)| name));
    commands::run(cli, &Process { logger, signals })
}

/// The entry point for the front (`src/front/`): runs the whole program on the process's command line.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn resnet_xla_main() -> ! {
    // A panic must not unwind into the front, which has its own Rust runtime.
    let code = panic::catch_unwind(main).unwrap_or_else(|_| {
        leave(End::Alone {
            code: exit::PANIC,
            reason: "it panicked",
        });
        exit::PANIC
    });
    std::process::exit(code.into())
}
