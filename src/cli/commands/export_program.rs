//! `export --program`: traces the computations of a run and writes them to a folder.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result};

use super::output::stdout;
use crate::cli::args::ExportArgs;
use crate::cli::config::{Config, check_split};
use crate::cli::config_file::{self, without_paths};
use crate::data::{self, DataError, DatasetKind, DatasetSpec};
use crate::device::DeviceChoice;
use crate::device::replicas::{Counted, ReplicaChoice};
use crate::model::program_folder::{self, ProgramFolder};
use crate::model::tracing;
use crate::run::checkpoint;
use crate::system::text::shown;

pub fn run(args: &ExportArgs, folder: &Path) -> Result<()> {
    tracing::check("export --program")?;
    let (config, spec) = settings(args)?;
    let from_settings = config.replicas.and_then(ReplicaChoice::count);
    let replicas = args.program.replicas.or(from_settings).unwrap_or(1);
    check_split(config.batch_size, replicas)?;
    let config = Config {
        replicas: NonZeroUsize::new(replicas).map(ReplicaChoice::Count),
        // The device of the settings is that of another machine, or of another run.
        device: DeviceChoice::Auto,
        ..config
    };
    let device = args.program.on.context("--program needs --on")?;
    let model = config.model(&spec, replicas);
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

/// The settings that `args` name, and the size and classes of their images.
fn settings(args: &ExportArgs) -> Result<(Config, DatasetSpec)> {
    if let Some(path) = &args.program.settings {
        let config = Config::complete(config_file::read(path)?)?;
        let spec = spec_of(&config)?;
        return Ok((config, spec));
    }
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    let table = config_file::parse_saved(&path, &info.config)?;
    Ok((Config::complete(table)?, info.spec))
}

/// Of some data sets it is only known once they are loaded.
fn spec_of(config: &Config) -> Result<DatasetSpec, DataError> {
    match config.dataset {
        DatasetKind::Cifar10 | DatasetKind::Sample => Ok(data::cifar10_spec()),
        DatasetKind::Cifar100 => Ok(data::cifar100_spec()),
        DatasetKind::Folder | DatasetKind::Npz | DatasetKind::Parquet => {
            let dataset = data::load(config.dataset, &config.data_dir, config.pictures())?;
            Ok(dataset.spec)
        }
    }
}
