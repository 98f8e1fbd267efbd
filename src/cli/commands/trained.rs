//! What `eval` and `predict` share: loading a checkpoint onto a device.

use std::num::NonZeroUsize;
use std::path::{Path, absolute};
use std::sync::Arc;

use anyhow::Result;

use crate::cli::args::{CheckpointArgs, DEFAULT_RUN};
use crate::cli::config_error::ConfigError;
use crate::cli::config_file::{saved_data, saved_data_dir};
use crate::data::{
    self, DataError, Dataset, DatasetKind, PictureOptions, RunImages, Split, Validation,
};
use crate::device::Device;
use crate::device::DeviceChoice;
use crate::device::replicas::ReplicaChoice;
use crate::model::program_folder::ProgramFolder;
use crate::model::tracing;
use crate::predict::trained::Options;
use crate::run::checkpoint::{CheckpointInfo, Source};
use crate::run::run_dir::RunDir;

/// The traced computations that `args` name, if they do.
pub fn program_folder(args: &CheckpointArgs) -> Result<Option<ProgramFolder>> {
    match &args.program {
        Some(path) => Ok(Some(ProgramFolder::open(path)?)),
        None => Ok(tracing::check("a network without --program").map(|()| None)?),
    }
}

/// Opens the device that `args` ask for, by default with as many replicas as `folder` is for.
pub fn open_device(args: &CheckpointArgs, folder: Option<&ProgramFolder>) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    let made_for = folder.and_then(|folder| NonZeroUsize::new(folder.replicas()));
    let replicas = args.device.replicas;
    let replicas = replicas.or(made_for.map(ReplicaChoice::Count));
    let device = Device::open(choice, plugin, replicas)?;
    let device = device.with_cache(args.device.compile_cache.as_deref());
    Ok(device.with_executables(&args.load_executable)?)
}

/// The images in a step: those that `folder` is for, or at least `wanted`, which any number of images would do for.
pub fn batch_size(wanted: usize, device: &Device, folder: Option<&ProgramFolder>) -> usize {
    match folder {
        Some(folder) => folder.batch_size(),
        None => wanted.next_multiple_of(device.replicas),
    }
}

/// Finds the checkpoint that `args` name.
pub fn find(args: &CheckpointArgs) -> Result<Source> {
    let source = Source::at(&args.checkpoint)?;
    let path = source.path().unwrap_or(&args.checkpoint);
    log::info!(
        "{}: {}, step {}",
        path.display(),
        source.info.network(),
        source.info.position.step
    );
    Ok(source)
}

/// [`find`], or where `args` name no checkpoint and there is no run yet, the network that comes with the program.
pub fn find_or_shipped(args: &CheckpointArgs) -> Result<Source> {
    if args.checkpoint != Path::new(DEFAULT_RUN) || args.checkpoint.exists() {
        return find(args);
    }
    let source = Source::shipped()?;
    log::info!(
        "there is no run in {DEFAULT_RUN} yet: taking the network that comes with the program, {} trained on CIFAR-10",
        source.info.network()
    );
    Ok(source)
}

/// How `args` want the network to be run.
pub fn options(args: &CheckpointArgs) -> Options {
    Options {
        precision: args.device.precision,
        units: args.device.units,
        weights: args.weights,
    }
}

/// The data that `args` name; by default the data that the network was trained on, from the same folder. Where there are
/// no test images, those of [`load_images`] are in their place.
///
/// # Errors
/// The data cannot be loaded or does not fit the network.
pub fn load_data(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<Dataset> {
    let dataset = load_fitting(args, info)?;
    if !dataset.test.is_empty() {
        return Ok(dataset);
    }
    let stratified = dataset.stratified;
    let images = divided(dataset, args, info);
    let Validation { split, held_out } = images.validation;
    let which = match held_out {
        true => "that it is validated on",
        false => "that it has",
    };
    log::info!(
        "{} has no test images: taking the {} {which}",
        images.name,
        split.len()
    );
    Ok(Dataset {
        name: images.name,
        spec: images.spec,
        train: images.training,
        validation: None,
        test: Arc::unwrap_or_clone(split),
        stratified,
        sum: images.sum,
    })
}

/// The data that `args` name, whose test images may be none. A warning says if the run's own have changed.
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
    let has_changed = info.data_sum.is_some() && info.data_sum != dataset.sum;
    if has_changed && is_own(&dataset, args, info) {
        log::warn!(
            "{}: the images are no longer those that the network was trained on; those to score may be among the ones that \
             it was trained on",
            dataset.name
        );
    }
    Ok(dataset)
}

/// [`load_data`], divided as it was for the run that the network is of. Of other data, the validation images are taken, or
/// else the test images; where there is neither, all images.
pub fn load_images(args: &CheckpointArgs, info: &CheckpointInfo) -> Result<RunImages> {
    Ok(divided(load_fitting(args, info)?, args, info))
}

fn divided(mut dataset: Dataset, args: &CheckpointArgs, info: &CheckpointInfo) -> RunImages {
    let saved = saved_data(&info.config);
    let held_out = match is_own(&dataset, args, info) {
        true => saved.validation_split.count(dataset.train.len()),
        false => 0,
    };
    // Data that have changed may have fewer images than were held out.
    if (1..dataset.train.len()).contains(&held_out) {
        return dataset.divide(held_out, saved.seed);
    }
    let has_validation = (dataset.validation.as_ref()).is_some_and(|split| !split.is_empty());
    if !has_validation && dataset.test.is_empty() {
        let none = Split::empty(dataset.spec.side);
        dataset.test = std::mem::replace(&mut dataset.train, none);
    }
    dataset.divide(0, saved.seed)
}

/// Whether `dataset`, which `args` name, is what the run was trained on: the same images, or those in the same place, which
/// may have changed since.
fn is_own(dataset: &Dataset, args: &CheckpointArgs, info: &CheckpointInfo) -> bool {
    let is_kind = args.data.dataset.is_none_or(|kind| kind == info.dataset);
    let is_place = args.data.data_dir.as_ref().is_none_or(|folder| {
        absolute(folder).ok().as_deref() == saved_data_dir(&info.config).as_deref()
    });
    // The official files are the same in any place.
    is_kind && (is_place || dataset.sum.is_none() || dataset.sum == info.data_sum)
}

fn load_kind(
    kind: DatasetKind,
    args: &CheckpointArgs,
    info: &CheckpointInfo,
) -> Result<Dataset, DataError> {
    let options = PictureOptions {
        side: info.spec.side,
        skip_bad: saved_data(&info.config).skip_bad,
        cache_memory: saved_data(&info.config).cache_memory,
        cache_folder: RunDir::around(&args.checkpoint).and_then(|run| run.decoded_images()),
    };
    if let Some(folder) = &args.data.data_dir {
        return data::load(kind, folder, options);
    }
    match saved_data_dir(&info.config) {
        Some(folder) if kind == info.dataset => data::load_again(kind, &folder, options),
        _ => data::load(kind, Path::new(data::DEFAULT_FOLDER), options),
    }
}
