//! `export --program`: traces the computations of a run and writes them to a folder.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result};
use toml::Table;

use super::output::stdout;
use crate::cli::args::ExportArgs;
use crate::cli::config::{Config, check_split};
use crate::cli::config_file::{self, without_paths};
use crate::device::replicas::{Counted, ReplicaChoice};
use crate::model::program_folder::{self, ProgramFolder};
use crate::run::checkpoint;
use crate::system::text::shown;

pub fn run(args: &ExportArgs, folder: &Path) -> Result<()> {
    let config = Config::complete(settings(args)?)?;
    let from_settings = config.replicas.and_then(ReplicaChoice::count);
    let replicas = args.program.replicas.or(from_settings).unwrap_or(1);
    check_split(config.batch_size, replicas)?;
    let config = Config {
        replicas: NonZeroUsize::new(replicas).map(ReplicaChoice::Count),
        ..config
    };
    let device = args.program.on.context("--program needs --on")?;
    let model = config.model(replicas);
    program_folder::write(folder, &model, device, without_paths(&config.to_toml()?))?;
    let digest = ProgramFolder::open(folder)?.digest();
    writeln!(
        stdout(),
        "{}: {}, batches of {} on {} of kind {device}, sha256 {digest}",
        shown(folder),
        model.network,
        model.batch_size,
        Counted(replicas),
    )?;
    Ok(())
}

/// The settings that `args` name.
fn settings(args: &ExportArgs) -> Result<Table> {
    if let Some(path) = &args.program.settings {
        return Ok(config_file::read(path)?);
    }
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    Ok(config_file::parse_saved(&path, &info.config)?)
}
