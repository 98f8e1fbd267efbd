//! What `eval` and `predict` share: loading a checkpoint onto a device.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::args::{CheckpointArgs, DEFAULT_RUN};
use crate::cli::config::check_validation_split;
use crate::cli::config_error::ConfigError;
use crate::cli::config_file::{saved_data_dir, saved_validation_split};
use crate::data::{self, DataError, Dataset, DatasetKind, RunImages};
use crate::device::Device;
use crate::device::DeviceChoice;
use crate::device::compile_cache::CompileCache;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::ModelSettings;
use crate::model::program::{Program, Weights};
use crate::model::program_folder::{ProgramFolder, Use};
use crate::run::checkpoint::{self, CheckpointInfo};

/// A checkpoint and its metadata.
pub struct Checkpoint {
    /// `None`: the network that comes with the program.
    path: Option<PathBuf>,
    pub info: CheckpointInfo,
}

/// Trained weights on a device, with the program that reads them.
pub struct Trained<'a> {
    pub program: Program<'a>,
    pub weights: Weights,
}

/// The traced computations that `args` name, if they do.
pub fn program_folder(args: &CheckpointArgs) -> Result<Option<ProgramFolder>> {
    let path = args.program.as_deref();
    Ok(path.map(ProgramFolder::open).transpose()?)
}

/// Opens the device that `args` ask for, by default with as many replicas as `folder` is for.
pub fn open_device(args: &CheckpointArgs, folder: Option<&ProgramFolder>) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    let made_for = folder.and_then(|folder| NonZeroUsize::new(folder.replicas()));
    let replicas = args.device.replicas;
    let replicas = replicas.or(made_for.map(ReplicaChoice::Count));
    let cache = CompileCache::chosen(args.device.compile_cache.as_deref());
    Ok(Device::open(choice, plugin, replicas)?.with_cache(cache))
}

/// The images in a step: those that `folder` is for, or at least `wanted`, which any number of images would do for.
pub fn batch_size(wanted: usize, device: &Device, folder: Option<&ProgramFolder>) -> usize {
    match folder {
        Some(folder) => folder.batch_size(),
        None => wanted.next_multiple_of(device.replicas),
    }
}

/// Finds the checkpoint that `args` name.
pub fn find(args: &CheckpointArgs) -> Result<Checkpoint> {
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    log::info!(
        "{}: {}, step {}",
        path.display(),
        info.network(),
        info.position.step
    );
    Ok(Checkpoint {
        path: Some(path),
        info,
    })
}

/// [`find`], or where `args` name no checkpoint and there is no run yet, the network that comes with the program.
pub fn find_or_shipped(args: &CheckpointArgs) -> Result<Checkpoint> {
    if args.checkpoint != Path::new(DEFAULT_RUN) || args.checkpoint.exists() {
        return find(args);
    }
    let info = checkpoint::shipped::info()?;
    log::info!(
        "there is no run in {DEFAULT_RUN} yet: taking the network that comes with the program, {} trained on CIFAR-10",
        info.network()
    );
    Ok(Checkpoint { path: None, info })
}

/// Puts the weights of `checkpoint` on `device`, for batches of `batch_size` images, which must be a
/// multiple of the number of replicas. The computations come from `folder`, if there is one.
pub fn load<'a>(
    checkpoint: &Checkpoint,
    args: &CheckpointArgs,
    batch_size: usize,
    device: &'a Device,
    folder: Option<ProgramFolder>,
) -> Result<Trained<'a>> {
    let settings = ModelSettings {
        network: checkpoint.info.network(),
        classes: checkpoint.info.spec.classes(),
        image_side: checkpoint.info.spec.side,
        replicas: device.replicas,
        precision: args.device.precision,
        units: args.device.units,
        l2: checkpoint.info.l2,
        // Evaluation and prediction do not read the others.
        ..ModelSettings::tutorial(checkpoint.info.depth, batch_size)
    };
    let program = Program::of(device, &settings, Use::Inference, folder)?;
    let network = match &checkpoint.path {
        Some(path) => {
            checkpoint::load_chosen(path, program.layout(), &checkpoint.info, args.weights)?
        }
        None => checkpoint::shipped::network(program.layout(), args.weights)?,
    };
    let weights = program.upload_weights(&network)?;
    Ok(Trained { program, weights })
}

/// The data that `args` name; by default the data that the network was trained on, from the same folder.
///
/// # Errors
/// The data cannot be loaded or does not fit the network.
pub fn load_data(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<Dataset> {
    let kind = args.data.dataset.unwrap_or(info.dataset);
    let dataset = load_kind(kind, args, info)?;
    if dataset.spec != info.spec {
        return Err(ConfigError::Value {
            option: "dataset",
            expected: "images of the size and of the classes that the network was trained on",
            got: dataset.name,
        }
        .into());
    }
    Ok(dataset)
}

/// [`load_data`], divided as it was for the run that the network is of; another data set than that of the run has its
/// test images to be scored on.
pub fn load_images(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<RunImages> {
    let dataset = load_data(args, info)?;
    let is_own = args.data.dataset.is_none_or(|kind| kind == info.dataset);
    let held_out = match is_own {
        true => saved_validation_split(&info.config),
        false => 0,
    };
    // No batch is trained on here.
    check_validation_split(held_out, dataset.train.len(), 1)?;
    Ok(dataset.divide(held_out))
}

fn load_kind(
    kind: DatasetKind,
    args: &CheckpointArgs,
    info: &CheckpointInfo,
) -> Result<Dataset, DataError> {
    if let Some(folder) = &args.data.data_dir {
        return data::load(kind, folder);
    }
    match saved_data_dir(&info.config) {
        Some(folder) if kind == info.dataset => data::load_again(kind, &folder),
        _ => data::load(kind, Path::new(data::DEFAULT_FOLDER)),
    }
}
