//! Parses the command line, runs it, prints the chain of causes of an error.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use resnet_xla::cli::Cli;
use resnet_xla::logger::Logger;
use resnet_xla::process::Process;
use resnet_xla::signals::Signals;
use resnet_xla::{arguments, commands, exit, memory, runtime, text, variables};

fn main() -> ExitCode {
    memory::keep_freed_memory();
    let words: Vec<OsString> = env::args_os().collect();
    let cli = match arguments::parse(&words) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {}", exit::message(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

/// Prints what clap says of the command line, or the help that was asked for. It repeats what it was given, so where that
/// would steer the terminal, the text is plain.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_own = |name: &OsString| name.to_string_lossy().starts_with("RESNET_XLA_");
    let variables = env::vars_os().filter(|(name, _)| is_own(name));
    let given = env::args_os().chain(variables.map(|(_, value)| value));
    let steers = |text: OsString| text::one_line(&text.to_string_lossy()) != text.to_string_lossy();
    // With the output closed there is nobody left to tell.
    let _ = if error.use_stderr() && given.map(steers).any(|steers| steers) {
        let plain = error.render().to_string();
        write!(std::io::stderr(), "{}", text::for_terminal(&plain))
    } else {
        error.print()
    };
    // clap's own codes are 0 and 2.
    ExitCode::from(error.exit_code() as u8)
}

fn run(cli: &Cli) -> Result<()> {
    let signals = Signals::catch().context("waiting for signals")?;
    runtime::quiet(cli.verbose);
    let logger = Logger::install(cli.verbose)?;
    variables::warn_of_unknown(std::env::vars_os().map(|(name, _)| name));
    commands::run(cli, &Process { logger, signals })
}
