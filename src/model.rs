//! Chooses the traced model that suits a device.

use xla_graphs::collective::Replicas;
use xla_graphs::ops::Lowering;
use xla_graphs::{GraphError, Model, Precision, ResNet};

use crate::config::{BatchNormMode, PrecisionChoice};
use crate::data::{CLASSES, SIDE};
use crate::device::DeviceKind;

/// The settings that shape the computations.
#[derive(Clone, Copy, Debug)]
pub struct ModelSettings {
    pub depth: usize,
    /// Images in a step, over all replicas.
    pub batch_size: usize,
    /// A divisor of `batch_size`.
    pub replicas: usize,
    /// `None`: what suits the device.
    pub precision: Option<PrecisionChoice>,
    pub batch_norm: BatchNormMode,
    pub l2: f64,
    /// Momentum of SGD; evaluation and prediction do not read it.
    pub momentum: f64,
}

/// The model of `settings` in the formulation that suits a device of kind `device`.
pub fn build(settings: &ModelSettings, device: DeviceKind) -> Result<Model, GraphError> {
    build_as(settings, device, lowering(settings, device))
}

/// [`build`] in the formulation `lowering`.
pub fn build_as(
    settings: &ModelSettings,
    device: DeviceKind,
    lowering: Lowering,
) -> Result<Model, GraphError> {
    let precision = precision(settings.precision, device);
    Ok(Model {
        network: ResNet::new(settings.depth, CLASSES, lowering)?,
        batch: settings.batch_size / settings.replicas,
        image_side: SIDE,
        precision,
        replicas: Replicas(settings.replicas),
        sync_batch_norm: settings.batch_norm == BatchNormMode::Sync,
        l2: settings.l2 as f32,
        momentum: settings.momentum as f32,
    })
}

/// The formulation that suits a device of kind `device`.
pub fn lowering(settings: &ModelSettings, device: DeviceKind) -> Lowering {
    let precision = precision(settings.precision, device);
    match device {
        DeviceKind::Cpu if precision == Precision::F32 && cpu_kernels::supported() => {
            Lowering::Kernels
        }
        DeviceKind::Cpu | DeviceKind::CpuPlugin => Lowering::Dots,
        DeviceKind::Tpu | DeviceKind::Gpu | DeviceKind::Other => Lowering::Native,
    }
}

/// bf16 on a TPU, whose matrix unit works in it; f32 elsewhere.
fn precision(choice: Option<PrecisionChoice>, device: DeviceKind) -> Precision {
    match (choice, device) {
        (Some(PrecisionChoice::F32), _) => Precision::F32,
        (Some(PrecisionChoice::Bf16), _) | (None, DeviceKind::Tpu) => Precision::Bf16,
        (None, _) => Precision::F32,
    }
}
