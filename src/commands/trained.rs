//! What `eval` and `predict` share: a checkpoint, made ready to run on a device.

use std::path::PathBuf;

use anyhow::Result;

use crate::checkpoint::{self, CheckpointInfo};
use crate::cli::CheckpointArgs;
use crate::config::{BatchNormMode, ConfigError, DeviceChoice};
use crate::data::{self, Dataset, DatasetKind};
use crate::device::Device;
use crate::model::{self, ModelSettings};
use crate::program::{Program, Weights};

/// A trained network on its device.
pub struct Trained<'a> {
    pub program: Program<'a>,
    pub weights: Weights,
    pub info: CheckpointInfo,
}

/// Opens the device that `args` ask for.
pub fn open_device(args: &CheckpointArgs) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    Ok(Device::open(choice, args.device.plugin.as_deref())?)
}

/// Loads the checkpoint that `args` name and puts its weights on `device`, for batches of
/// `batch_size` images.
pub fn load<'a>(
    args: &CheckpointArgs,
    batch_size: usize,
    device: &'a Device,
) -> Result<Trained<'a>> {
    if batch_size == 0 {
        return Err(ConfigError::Value {
            option: "batch-size",
            expected: "1 or more",
            got: "0".to_owned(),
        }
        .into());
    }
    let path = checkpoint::resolve(&args.checkpoint)?;
    let info = checkpoint::load_info(&path)?;
    log::info!(
        "{}: depth {}, step {}",
        path.display(),
        info.depth,
        info.step
    );
    let settings = ModelSettings {
        depth: info.depth,
        batch_size,
        precision: args.device.precision,
        batch_norm: BatchNormMode::Sync,
        l2: info.l2,
        momentum: 0.0,
    };
    let program = Program::new(device, model::build(&settings, device.kind)?);
    let weights = program.upload_weights(&checkpoint::load_network(&path, program.layout())?)?;
    Ok(Trained {
        program,
        weights,
        info,
    })
}

/// The data that `args` name; CIFAR-10 unless they say otherwise.
pub fn load_data(args: &CheckpointArgs) -> Result<Dataset> {
    let kind = args.data.dataset.unwrap_or(DatasetKind::Cifar10);
    let folder = args.data.data_dir.clone();
    Ok(data::load(kind, &folder.unwrap_or(PathBuf::from("data")))?)
}
