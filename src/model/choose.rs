//! Chooses the traced model that suits a device.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xla_graphs::collective::Replicas;
use xla_graphs::network::{Units, Version};
use xla_graphs::ops::{Lowering, batch_norm};
use xla_graphs::{GraphError, Model, Precision, ResNet};

use crate::data;
use crate::device::DeviceKind;
use crate::model::network::Network;
use crate::model::optimisers::OptimiserSettings;

/// What batch statistics cover when several replicas share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The images of all replicas
    Sync,
    /// Each replica's own images
    Local,
}

/// Number format of activations and kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    F32,
    Bf16,
}

/// How the equal units of a stage, all but its first, are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitsChoice {
    /// One by one
    Unrolled,
    /// As a loop over one of them: compiles as fast at any depth
    Loop,
}

/// How the step is written for the compiler ([`xla_graphs::ops::Lowering`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoweringChoice {
    /// XLA's own convolutions and sums
    Native,
    /// The same, with fewer passes over the images on the way back: for a TPU's compiler
    Tpu,
    /// 1x1 convolutions and sums as matrix products
    Dots,
    /// The CPU's fused kernels
    Kernels,
}

impl From<Lowering> for LoweringChoice {
    fn from(lowering: Lowering) -> Self {
        match lowering {
            Lowering::Native => Self::Native,
            Lowering::Tpu => Self::Tpu,
            Lowering::Dots => Self::Dots,
            Lowering::Kernels => Self::Kernels,
        }
    }
}

impl From<LoweringChoice> for Lowering {
    fn from(choice: LoweringChoice) -> Self {
        match choice {
            LoweringChoice::Native => Self::Native,
            LoweringChoice::Tpu => Self::Tpu,
            LoweringChoice::Dots => Self::Dots,
            LoweringChoice::Kernels => Self::Kernels,
        }
    }
}

/// The settings that shape the computations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    pub network: Network,
    /// Stages whose layers, with the stem's, training leaves as they are; `None`: it changes all. Evaluation and
    /// prediction do not read it.
    #[serde(default)]
    pub frozen: Option<usize>,
    pub classes: usize,
    /// Rows and columns of an image.
    pub image_side: usize,
    /// Images in a step, over all replicas.
    pub batch_size: usize,
    /// A divisor of `batch_size`.
    pub replicas: usize,
    /// `None`: what suits the device.
    pub precision: Option<PrecisionChoice>,
    /// `None`: what suits the device.
    pub units: Option<UnitsChoice>,
    pub batch_norm: BatchNormMode,
    /// Share of the old value that moving statistics keep at each step. Evaluation and prediction do not read it.
    pub bn_momentum: f64,
    pub l2: f64,
    /// Share of a label's weight that is spread over all classes. Evaluation and prediction do not read it,
    /// nor the optimiser.
    pub label_smoothing: f64,
    /// Whether training mixes two images with two labels into one. Evaluation and prediction do not read it.
    pub mixes_labels: bool,
    pub optimiser: OptimiserSettings,
    /// Decoupled weight decay of the kernels. Evaluation and prediction do not read it.
    pub weight_decay: f64,
    /// Share of the old value that the average of the weights keeps at each step; `None`: no average.
    pub averaging: Option<f64>,
}

impl ModelSettings {
    /// The tutorial's network of `depth` layers, trained on CIFAR-10 in batches of `batch_size` images on one device.
    pub fn tutorial(depth: usize, batch_size: usize) -> Self {
        let spec = data::cifar10_spec();
        Self {
            network: Network::resnet_v2(depth),
            frozen: None,
            classes: spec.classes(),
            image_side: spec.side,
            batch_size,
            replicas: 1,
            precision: None,
            units: None,
            batch_norm: BatchNormMode::Sync,
            bn_momentum: batch_norm::MOMENTUM,
            l2: 1e-4,
            label_smoothing: 0.0,
            mixes_labels: false,
            optimiser: OptimiserSettings::sgd(0.9),
            weight_decay: 0.0,
            averaging: None,
        }
    }
}

/// The model of `settings` in the formulation that suits a device of kind `device` and its own channels.
pub fn build(settings: &ModelSettings, device: DeviceKind) -> Result<Model, GraphError> {
    let network = settings.network.layers(settings.classes)?;
    build_as(settings, device, lowering_of(&network, device))
}

/// The formulation that suits a device of kind `device` and the channels of `network`.
pub fn lowering_of(network: &ResNet, device: DeviceKind) -> Lowering {
    match lowering(device) {
        Lowering::Kernels if beyond_kernels(network).is_some() => Lowering::Dots,
        suited => suited,
    }
}

/// Why the CPU's kernels do not compute `network`, if they do not.
pub fn beyond_kernels(network: &ResNet) -> Option<String> {
    if network.version == Version::V1 {
        let reason =
            "batch norms come behind convolutions in version 1, and the kernels take them before";
        return Some(reason.to_owned());
    }
    let (conv, channels) = network.beyond_kernels()?;
    Some(format!(
        "{} has {channels} channels, and the kernels take multiples of 16",
        conv.name
    ))
}

/// [`build`] in the formulation `lowering`.
pub fn build_as(
    settings: &ModelSettings,
    device: DeviceKind,
    lowering: Lowering,
) -> Result<Model, GraphError> {
    let precision = precision(settings.precision, device);
    let architecture = settings.network.architecture()?;
    let network = ResNet::new(&architecture, settings.classes, lowering)?;
    Ok(Model {
        network: network
            .with_frozen(settings.frozen)
            .with_units(units(settings.units))
            .with_precision(precision),
        batch: settings.batch_size / settings.replicas,
        image_side: settings.image_side,
        replicas: Replicas(settings.replicas),
        sync_batch_norm: settings.batch_norm == BatchNormMode::Sync,
        l2: settings.l2 as f32,
        bn_momentum: settings.bn_momentum,
        label_smoothing: settings.label_smoothing as f32,
        mixes_labels: settings.mixes_labels,
        optimiser: settings.optimiser.rule(),
        weight_decay: settings.weight_decay as f32,
        averaging: settings.averaging,
    })
}

/// The formulation that suits a device of kind `device`.
pub fn lowering(device: DeviceKind) -> Lowering {
    match device {
        DeviceKind::Cpu | DeviceKind::CpuPluginWithKernels if cpu_kernels::supported() => {
            Lowering::Kernels
        }
        DeviceKind::Cpu | DeviceKind::CpuPlugin | DeviceKind::CpuPluginWithKernels => {
            Lowering::Dots
        }
        DeviceKind::Tpu => Lowering::Tpu,
        DeviceKind::Gpu | DeviceKind::Other => Lowering::Native,
    }
}

/// The instruction set that a device of kind `device` chooses its kernels by; the kind of one that runs none.
pub fn instructions(device: DeviceKind) -> String {
    match device {
        DeviceKind::Cpu | DeviceKind::CpuPluginWithKernels => cpu_kernels::isa().to_string(),
        _ => device.to_string(),
    }
}

fn units(choice: Option<UnitsChoice>) -> Units {
    match choice {
        Some(UnitsChoice::Loop) => Units::Loop,
        Some(UnitsChoice::Unrolled) | None => Units::Unrolled,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn model(device: DeviceKind, choice: Option<PrecisionChoice>) -> Model {
        let settings = ModelSettings {
            replicas: 8,
            precision: choice,
            ..ModelSettings::tutorial(11, 128)
        };
        build(&settings, device).unwrap()
    }

    #[test]
    fn a_tpu_computes_in_bf16_and_every_other_device_in_f32() {
        assert_eq!(
            model(DeviceKind::Tpu, None).network.precision,
            Precision::Bf16
        );
        for device in [
            DeviceKind::Cpu,
            DeviceKind::CpuPlugin,
            DeviceKind::Gpu,
            DeviceKind::Other,
        ] {
            assert_eq!(
                model(device, None).network.precision,
                Precision::F32,
                "{device:?}"
            );
        }
    }

    #[test]
    fn a_precision_that_was_asked_for_holds_on_every_device() {
        for device in [DeviceKind::Tpu, DeviceKind::Cpu] {
            let f32 = model(device, Some(PrecisionChoice::F32));
            assert_eq!(f32.network.precision, Precision::F32);
            let bf16 = model(device, Some(PrecisionChoice::Bf16));
            assert_eq!(bf16.network.precision, Precision::Bf16);
        }
    }

    #[test]
    fn a_plugin_that_runs_the_kernels_gets_the_network_of_the_runtimes_own_cpu() {
        let lowering = |device| model(device, None).network.stem.lowering;
        let plugin = lowering(DeviceKind::CpuPluginWithKernels);
        assert_eq!(plugin, lowering(DeviceKind::Cpu));
        assert_eq!(plugin == Lowering::Kernels, cpu_kernels::supported());
    }

    #[test]
    fn accelerators_get_real_convolutions_and_each_replica_its_share_of_the_batch() {
        for (device, lowering) in [
            (DeviceKind::Tpu, Lowering::Tpu),
            (DeviceKind::Gpu, Lowering::Native),
            (DeviceKind::Other, Lowering::Native),
        ] {
            let model = model(device, None);
            assert_eq!(model.network.stem.lowering, lowering);
            assert_eq!(model.batch, 16);
        }
        assert_eq!(
            model(DeviceKind::CpuPlugin, None).network.stem.lowering,
            Lowering::Dots
        );
    }

    #[test]
    fn what_computes_is_the_kernels_instruction_set_or_the_kind_of_device() {
        let isa = cpu_kernels::isa().to_string();
        for (device, expected) in [
            (DeviceKind::Cpu, isa.as_str()),
            (DeviceKind::CpuPluginWithKernels, &isa),
            (DeviceKind::CpuPlugin, "cpu-plugin"),
            (DeviceKind::Tpu, "tpu"),
        ] {
            assert_eq!(instructions(device), expected);
        }
    }
}
