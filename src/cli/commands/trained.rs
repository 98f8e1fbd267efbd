//! What `eval` and `predict` share: loading a checkpoint onto a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use crate::cli::args::{CheckpointArgs, DEFAULT_RUN};
use crate::cli::config::divide;
use crate::cli::config_error::ConfigError;
use crate::cli::config_file::{saved_data, saved_data_dir};
use crate::data::{self, DataError, Dataset, DatasetKind, HeldOut, PictureOptions, RunImages};
use crate::device::Device;
use crate::device::DeviceChoice;
use crate::model::choose::{self, ModelSettings};
use crate::model::program::{Program, Weights};
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

/// Opens the device that `args` ask for.
pub fn open_device(args: &CheckpointArgs) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    Ok(Device::open(choice, plugin, args.device.replicas)?)
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
/// multiple of the number of replicas.
pub fn load<'a>(
    checkpoint: &Checkpoint,
    args: &CheckpointArgs,
    batch_size: usize,
    device: &'a Device,
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
    let program = Program::new(device, choose::build(&settings, device.kind)?);
    let network = match &checkpoint.path {
        Some(path) => {
            checkpoint::load_chosen(path, program.layout(), &checkpoint.info, args.weights)?
        }
        None => checkpoint::shipped::network(program.layout(), args.weights)?,
    };
    let weights = program.upload_weights(&network)?;
    Ok(Trained { program, weights })
}

/// The data that `args` name; by default the data that the network was trained on, from the same folder. Where there are
/// no test images, those that the run was validated on are in their place.
///
/// # Errors
/// The data cannot be loaded or does not fit the network.
pub fn load_data(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<Dataset> {
    let dataset = load_fitting(args, info)?;
    if !dataset.test.is_empty() {
        return Ok(dataset);
    }
    let stratified = dataset.stratified;
    let images = divided(dataset, args, info)?;
    let test = Arc::unwrap_or_clone(images.validation.split);
    log::info!(
        "{} has no test images: taking the {} that it is validated on",
        images.name,
        test.len()
    );
    Ok(Dataset {
        name: images.name,
        spec: images.spec,
        train: images.training,
        validation: None,
        test,
        stratified,
    })
}

/// The data that `args` name, whose test images may be none.
fn load_fitting(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<Dataset> {
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
    divided(load_fitting(args, info)?, args, info)
}

fn divided(dataset: Dataset, args: &CheckpointArgs, info: &CheckpointInfo) -> Result<RunImages> {
    let is_own = args.data.dataset.is_none_or(|kind| kind == info.dataset);
    let saved = saved_data(&info.config);
    let held_out = match is_own {
        true => saved.validation_split,
        false => HeldOut::NONE,
    };
    // No batch is trained on here.
    Ok(divide(dataset, held_out, saved.seed, 1)?)
}

fn load_kind(
    kind: DatasetKind,
    args: &CheckpointArgs,
    info: &CheckpointInfo,
) -> Result<Dataset, DataError> {
    let options = PictureOptions {
        side: info.spec.side,
        skip_bad: saved_data(&info.config).skip_bad,
    };
    if let Some(folder) = &args.data.data_dir {
        return data::load(kind, folder, options);
    }
    match saved_data_dir(&info.config) {
        Some(folder) if kind == info.dataset => data::load_again(kind, &folder, options),
        _ => data::load(kind, Path::new(data::DEFAULT_FOLDER), options),
    }
}
