//! Loads the shared library that contains the program, and calls it.
//!
//! That library is linked with the XLA runtime. The front is not, so it starts anywhere and can say what is missing.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::library;
use crate::places::Places;

pub fn load_and_run() -> ExitCode {
    let places = Places::of_this_program();
    let reason = match places.library() {
        Some(path) => places.why_not(&library::run(path)),
        None => places.no_library(),
    };
    // If the output is closed, there is nowhere to report.
    without_library(&places, &reason).unwrap_or(ExitCode::FAILURE)
}

/// Does what is possible without the library, which could not be loaded because of `reason`.
fn without_library(places: &Places, reason: &str) -> io::Result<ExitCode> {
    let command = env::args_os().nth(1).unwrap_or_default();
    if command == "--version" || command == "-V" {
        writeln!(io::stdout(), "resnet-xla {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if command == "doctor" {
        writeln!(io::stdout(), "resnet-xla  {}", env!("CARGO_PKG_VERSION"))?;
        places.report(&mut io::stdout())?;
    }
    writeln!(io::stderr(), "error: {reason}")?;
    Ok(ExitCode::FAILURE)
}
