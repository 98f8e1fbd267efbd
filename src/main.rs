//! Parses the command line, runs it, prints the chain of causes of an error.

use std::process::ExitCode;

use clap::Parser;
use resnet_xla::cli::Cli;
use resnet_xla::logger::Logger;
use resnet_xla::{commands, exit, memory, runtime};

fn main() -> ExitCode {
    memory::keep_freed_memory();
    let cli = Cli::parse();
    runtime::quiet(cli.verbose);
    let result = Logger::install(cli.verbose).and_then(|logger| commands::run(&cli, logger));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code(&error))
        }
    }
}
