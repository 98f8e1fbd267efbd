//! `completions` and `man`: the command line described for shells and for `man`.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;

use super::output::stdout;
use crate::cli::args::{Cli, CompletionsArgs, ManArgs};
use crate::cli::config::ConfigError;

const NAME: &str = "resnet-xla";

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    // The generator panics when it writes to a closed pipe; writing to memory cannot fail.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    Ok(stdout().write_all(&script)?)
}

pub fn man(args: &ManArgs) -> Result<()> {
    let mut program = Cli::command();
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => subcommand(&program, name)?,
    };
    Ok(clap_mangen::Man::new(page).render(&mut stdout())?)
}

fn subcommand(program: &clap::Command, name: &str) -> Result<clap::Command, ConfigError> {
    program
        .find_subcommand(name)
        .cloned()
        .ok_or_else(|| ConfigError::Command {
            got: name.to_owned(),
        })
}
