//! `bench --ops --all-sets`: once for each instruction set that the processor has.

use std::env;
use std::io::Write;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use cpu_kernels::isa::{self, Isa};

use crate::cli::args::BenchArgs;
use crate::cli::commands::output::stdout;
use crate::cli::config::ConfigError;
use crate::system::signals;

/// The option, which the processes for each set do without.
const OPTION: &str = "--all-sets";

/// A process for one set that failed. It has said why.
#[derive(Debug, thiserror::Error)]
#[error("bench --ops on {isa} ended with {status}, see above")]
pub struct SetFailed {
    isa: Isa,
    status: ExitStatus,
}

impl SetFailed {
    /// The exit code of that process; none after a signal.
    pub fn exit_code(&self) -> Option<u8> {
        self.status.code().and_then(|code| u8::try_from(code).ok())
    }
}

/// Runs this command again for each set, the least first. A process of its own, because a process chooses its set once.
pub fn run(args: &BenchArgs) -> Result<()> {
    let has_kernels = |isa: &Isa| *isa != Isa::Generic && isa.is_present();
    let sets: Vec<Isa> = Isa::ALL.into_iter().filter(has_kernels).collect();
    if sets.is_empty() {
        return Err(ConfigError::Value {
            option: "all-sets",
            expected: "a processor with AVX2 and FMA",
            got: "one without".to_owned(),
        }
        .into());
    }
    let absent = Isa::ALL.iter().filter(|isa| !isa.is_present());
    for isa in absent {
        log::info!("{isa} is left out: it is not usable here");
    }
    for (index, isa) in sets.into_iter().enumerate() {
        if index > 0 && !args.json {
            writeln!(stdout())?;
        }
        run_on(isa)?;
    }
    Ok(())
}

fn run_on(isa: Isa) -> Result<()> {
    let program = env::current_exe().context("finding this program's file")?;
    let arguments = env::args_os().skip(1).filter(|word| word != OPTION);
    let mut command = Command::new(program);
    command.args(arguments).env(isa::VARIABLE, isa.to_string());
    let status = signals::deliver_to_child(&mut command)
        .status()
        .with_context(|| format!("starting this program again for {isa}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(SetFailed { isa, status }.into()),
    }
}
