//! `completions` and `man`: what shells and `man` know of the command line.

use std::io;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::config::ConfigError;

const NAME: &str = "resnet-xla";

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    // The generator ends the process on a closed pipe; into memory it cannot fail.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    io::Write::write_all(&mut io::stdout(), &script).context("writing the completions")
}

pub fn man(args: &ManArgs) -> Result<()> {
    let mut program = Cli::command();
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => subcommand(&program, name)?,
    };
    clap_mangen::Man::new(page)
        .render(&mut io::stdout())
        .context("writing the manual page")
}

fn subcommand(program: &clap::Command, name: &str) -> Result<clap::Command, ConfigError> {
    program
        .find_subcommand(name)
        .cloned()
        .ok_or_else(|| ConfigError::Command {
            got: name.to_owned(),
        })
}
