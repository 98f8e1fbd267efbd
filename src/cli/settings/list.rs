//! The list of all settings.

use super::Preset::Quick;
use super::{Preset, Setting};
use crate::data::{self, Augment, DatasetKind};
use crate::device::DeviceChoice;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, PrecisionChoice, UnitsChoice};
use crate::run::schedule::LearningRateDrops;
use crate::show::progress::ProgressMode;
use crate::system::limits;

/// The settings in the order of `--help`.
pub fn list() -> Vec<Setting> {
    let preset = Setting::choice::<Preset>("preset", "Named set of defaults")
        .default("keras")
        .in_preset(Quick, "quick")
        .stated("keras")
        .free();
    let mut all = vec![preset];
    all.extend(device());
    all.extend(network());
    all.extend(optimiser());
    all.extend(batches());
    all.extend(data());
    all.extend(run());
    all
}

/// Where and how precisely to compute. Whether a resumed run may change `replicas`, the checkpoint decides.
fn device() -> [Setting; 5] {
    [
        Setting::choice::<DeviceChoice>("device", "Device to run on; `auto` tries TPU, GPU, CPU")
            .default("auto")
            .free(),
        Setting::path("plugin", "Any PJRT plugin (shared library) to run on")
            .value_name("PATH")
            .free(),
        Setting::new(
            "replicas",
            "Devices that share each batch; on a CPU, virtual ones",
            str::parse::<ReplicaChoice>,
        )
        .value_name("N|all")
        .stated("all on TPU and GPU, 1 on CPU")
        .free(),
        Setting::choice::<PrecisionChoice>("precision", "Number format of activations and kernels")
            .stated("f32 on CPU, bf16 on TPU"),
        Setting::choice::<UnitsChoice>(
            "units",
            "How equal units are traced: a loop compiles as fast at any depth",
        )
        .stated("unrolled")
        .free(),
    ]
}

fn network() -> [Setting; 2] {
    [
        Setting::choice::<BatchNormMode>(
            "bn",
            "Statistics of batch normalisation: over all replicas, or each replica's own",
        )
        .default("sync"),
        Setting::new("depth", "Layers of the network, 9n+2", limits::depth)
            .value_name("N")
            .default("164")
            .in_preset(Quick, "11"),
    ]
}

fn optimiser() -> [Setting; 6] {
    [
        Setting::whole::<usize>("epochs", "Passes over the training images", limits::EPOCHS)
            .default("100")
            .in_preset(Quick, "3")
            .free(),
        // The moving statistics forget their start only after some hundred steps; the sample gives that many in 3
        // epochs with small batches alone.
        Setting::whole::<usize>("batch-size", "Images in a step", limits::BATCH_SIZE)
            .default("128")
            .in_preset(Quick, "16"),
        Setting::real(
            "lr",
            "Learning rate of the first epoch",
            limits::LEARNING_RATE,
        )
        .value_name("RATE")
        .default("0.1")
        .in_preset(Quick, "0.05"),
        Setting::new(
            "lr-drops",
            "Learning rates from later epochs on, or none",
            str::parse::<LearningRateDrops>,
        )
        .value_name("EPOCH:RATE,...")
        .shape(|arg| arg.allow_hyphen_values(true))
        .default("80:0.01,120:0.001"),
        Setting::real("momentum", "Momentum of SGD", limits::MOMENTUM)
            .value_name("M")
            .default("0.9"),
        Setting::real("l2", "Strength of the L2 penalty on kernels", limits::L2).default("1e-4"),
    ]
}

fn batches() -> [Setting; 7] {
    [
        Setting::whole::<u64>(
            "seed",
            "Seed of weights, data order and augmentation",
            limits::SEED,
        )
        .default("0"),
        Setting::choice::<Augment>("augment", "Augmentation of the training images")
            .default("keras"),
        Setting::whole::<usize>(
            "cutout",
            "Rows and columns of a square that each training image loses; 0: none",
            limits::CUTOUT,
        )
        .default("0")
        .came_with("cutout"),
        Setting::whole::<u64>("steps-per-epoch", "Steps in an epoch", limits::STEPS)
            .stated("as many whole batches as the data has"),
        Setting::whole::<u64>(
            "max-steps",
            "Stop after this many steps in all, before the epochs end. A resumed run keeps it, unless \
             --max-steps or --epochs is given anew",
            limits::ALL_STEPS,
        )
        .free(),
        Setting::whole::<u64>("eval-steps", "Batches of each validation", limits::STEPS)
            .stated("all images that it has"),
        Setting::flag("no-shuffle", "Take the training images in file order"),
    ]
}

/// Which images.
fn data() -> [Setting; 3] {
    [
        Setting::choice::<DatasetKind>("dataset", "Images to work on")
            .default("cifar10")
            .in_preset(Quick, "sample"),
        Setting::whole::<usize>(
            "validation-split",
            "Validate on the last N training images, in file order, which are not trained on; 0: on the test images",
            limits::VALIDATION_SPLIT,
        )
        .default("0")
        .came_with("cutout"),
        Setting::path(
            "data-dir",
            "Folder of the CIFAR-10 files; fetched there on first use",
        )
        .value_name("DIR")
        .default(data::DEFAULT_FOLDER)
        .stated("data; of a run that is there, its own")
        .free(),
    ]
}

/// Where the run is kept, and what it shows.
fn run() -> [Setting; 5] {
    [
        Setting::path("out-dir", "Folder of the run")
            .value_name("DIR")
            .default("runs/keras")
            .in_preset(Quick, "runs/quick")
            .stated("runs/PRESET")
            .free(),
        Setting::path(
            "init-weights",
            "Start from these weights (.safetensors) instead of random ones",
        )
        .value_name("FILE")
        .free(),
        Setting::whole::<u64>(
            "checkpoint-every",
            "Steps between checkpoints",
            limits::STEPS,
        )
        .stated("an epoch")
        .free(),
        Setting::whole::<usize>("keep", "Checkpoints to keep, at least 2", limits::KEEP)
            .default("3")
            .free(),
        Setting::choice::<ProgressMode>("progress", "How to show progress on the terminal")
            .default("auto")
            .free(),
    ]
}
