//! The program and the weights of a checkpoint, for batches of one size.

use crate::device::Device;
use crate::model::choose::{ModelSettings, PrecisionChoice, UnitsChoice};
use crate::model::program::{Program, Weights};
use crate::model::program_folder::{ProgramFolder, Use};
use crate::run::checkpoint::{CheckpointInfo, Source, WeightsChoice};

/// How a trained network is to be run; by default as suits the device, with the averaged weights where there are any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub precision: Option<PrecisionChoice>,
    pub units: Option<UnitsChoice>,
    pub weights: Option<WeightsChoice>,
}

/// Trained weights on a device, with the program that reads them.
pub struct Trained<'a> {
    pub program: Program<'a>,
    pub weights: Weights,
}

/// Puts the weights of `source` on `device`, for batches of `batch_size` images, which must be a multiple of the number
/// of replicas. The computations come from `folder`, if there is one.
pub fn load<'a>(
    source: &Source,
    options: &Options,
    batch_size: usize,
    device: &'a Device,
    folder: Option<ProgramFolder>,
) -> anyhow::Result<Trained<'a>> {
    let program = program(device, &source.info, options, batch_size, folder)?;
    let weights = source.weights(program.layout(), options.weights)?;
    let weights = program.upload_weights(&weights)?;
    Ok(Trained { program, weights })
}

/// The network that `info` describes on `device`, for batches of `batch_size` images, traced or from `folder`.
pub fn program<'a>(
    device: &'a Device,
    info: &CheckpointInfo,
    options: &Options,
    batch_size: usize,
    folder: Option<ProgramFolder>,
) -> anyhow::Result<Program<'a>> {
    let settings = ModelSettings {
        network: info.network(),
        classes: info.spec.classes(),
        image_side: info.spec.side,
        replicas: device.replicas,
        precision: options.precision,
        units: options.units,
        l2: info.l2,
        // Evaluation and prediction do not read the others.
        ..ModelSettings::tutorial(info.depth, batch_size)
    };
    Program::of(device, &settings, Use::Inference, folder)
}
