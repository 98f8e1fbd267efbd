//! The list of all settings.

use super::Preset::{Fast, Fast95, Quick};
use super::{Preset, Setting};
use crate::data::{self, Augment, DatasetKind, HeldOut, Size};
use crate::device::DeviceChoice;
use crate::device::coordinator::address::Address;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{BatchNormMode, PrecisionChoice, UnitsChoice};
use crate::model::network::{BlockChoice, NetworkKind, StageUnits, Widths, freezable_name};
use crate::model::optimisers::OptimiserKind;
use crate::run::schedule::{LearningRateDrops, ScheduleChoice};
use crate::show::progress::ProgressMode;
use crate::system::limits;

/// The settings in the order of `--help`.
pub fn list() -> Vec<Setting> {
    let preset = Setting::choice::<Preset>("preset", "Named set of defaults")
        .default("keras")
        .in_preset(Quick, "quick")
        .in_preset(Fast, "fast")
        .in_preset(Fast95, "fast95")
        .stated("keras")
        .free();
    let mut all = vec![preset];
    all.extend(device());
    all.extend(network());
    all.extend(optimiser());
    all.extend(learning_rate());
    all.extend(batches());
    all.extend(data());
    all.extend(run());
    all
}

/// The device, and the precision of the computation. Whether a resumed run may change `replicas` depends on the
/// checkpoint.
fn device() -> [Setting; 10] {
    [
        Setting::choice::<DeviceChoice>("device", "Device to run on; `auto` tries TPU, GPU, CPU")
            .default("auto")
            .free(),
        Setting::path("plugin", "Any PJRT plugin (shared library) to run on")
            .value_name("PATH")
            .free(),
        Setting::path(
            "program",
            "Run the traced computations in this folder, which `export --program` wrote, with their settings",
        )
        .value_name("DIR")
        .free(),
        Setting::path(
            "compile-cache",
            "Keep what plugins compile in this folder, so that the next start need not compile; `none`: nowhere",
        )
        .value_name("DIR|none")
        .stated("compiled in the user's cache")
        .free(),
        Setting::new(
            "replicas",
            "Devices that share each batch; on a CPU, virtual devices",
            str::parse::<ReplicaChoice>,
        )
        .value_name("N|all")
        .stated("all on TPU and GPU, 1 on CPU")
        .free(),
        Setting::whole::<usize>(
            "processes",
            "Processes that share the run, each on its own CPUs, GPUs or TPU host",
            limits::PROCESSES,
        )
        .stated("what mpirun, srun or the TPU VM says, or else 1")
        .free(),
        Setting::whole::<usize>("process", "Which of them this one is, from 0", limits::PROCESS)
            .value_name("I")
            .stated("what mpirun, srun or the TPU VM says")
            .free(),
        Setting::new(
            "coordinator",
            "Where processes on GPUs or a TPU slice meet: the machine of process 0, and a port that is free there",
            str::parse::<Address>,
        )
        .value_name("HOST:PORT")
        .stated("what MASTER_ADDR and MASTER_PORT say, or srun; on a slice that machine, port 29500")
        .free(),
        Setting::choice::<PrecisionChoice>("precision", "Number format of activations and kernels")
            .stated("f32 on CPU, bf16 on TPU"),
        Setting::choice::<UnitsChoice>(
            "units",
            "How equal units are traced: a loop compiles equally fast at any depth",
        )
        .stated("unrolled")
        .free(),
    ]
}

fn network() -> [Setting; 9] {
    [
        Setting::choice::<BatchNormMode>(
            "bn",
            "Statistics of batch normalisation: over all replicas, or each replica's own",
        )
        .default("sync"),
        Setting::real(
            "bn-momentum",
            "Share of the old value that the moving statistics of batch normalisation keep at each step; 0.9 by default in \
             networks of version 1",
            limits::MOMENTUM,
        )
        .value_name("M")
        .default("0.99")
        .in_preset(Quick, "0.9")
        .in_preset(Fast, "0.9")
        .came_with("lr-schedule"),
        Setting::choice::<NetworkKind>("model", "Kind of network")
            .default("resnet-v2")
            .in_preset(Fast, "fast")
            .in_preset(Fast95, "fast-deep")
            .came_with("lr-schedule"),
        Setting::new(
            "widths",
            "Channels of the stages: of the models fast and fast-deep three multiples of 16, of custom and custom-v1 one number for each of \
             --stage-units",
            str::parse::<Widths>,
        )
        .value_name("A,B,C")
        .default(Widths::FORMER)
        .in_preset(Fast, Widths::OF_PRESET)
        .in_preset(Fast95, "128,384,384")
        .came_with("weight-decay"),
        Setting::new(
            "stage-units",
            "Units of each stage of the models custom and custom-v1; each stage but the first halves the images",
            str::parse::<StageUnits>,
        )
        .value_name("A,B,C")
        .default(StageUnits::DEFAULT)
        .came_with("stage-units"),
        Setting::choice::<BlockChoice>("block", "Units of the models custom and custom-v1")
            .default("basic")
            .came_with("stage-units"),
        Setting::flag(
            "whiten",
            "Start with a first convolution that whitens patches of the training images, instead of a random one; with \
             --init-weights that of the file stays",
        )
        .stated("false")
        .in_preset(Quick, "true")
        .in_preset(Fast, "true")
        .came_with("lr-schedule"),
        Setting::flag(
            "dirac",
            "Start with 3x3 kernels that pass their channels on, instead of random ones, but for the first convolution's; with \
             --init-weights those of the file stay",
        )
        .stated("false")
        .came_with("dirac"),
        Setting::new(
            "depth",
            "Layers of resnet-v2, 9n+2",
            limits::depth,
        )
        .value_name("N")
        .default("164")
        .in_preset(Quick, "11"),
    ]
}

fn optimiser() -> [Setting; 9] {
    [
        Setting::whole::<usize>("epochs", "Passes over the training images", limits::EPOCHS)
            .default("100")
            .in_preset(Quick, "3")
            .in_preset(Fast, "24")
            .in_preset(Fast95, "30")
            .free(),
        // The moving statistics need a few hundred steps to forget their initial values; with the sample, 3 epochs
        // have that many only if the batches are small.
        Setting::whole::<usize>("batch-size", "Images in a step", limits::BATCH_SIZE)
            .default("128")
            .in_preset(Quick, "16")
            .in_preset(Fast, "512"),
        Setting::choice::<OptimiserKind>("optimizer", "Update rule of the weights")
            .default("sgd")
            .in_preset(Quick, "muon")
            .in_preset(Fast, "muon")
            .came_with("lr-schedule"),
        Setting::real("momentum", "Momentum of the optimizer", limits::MOMENTUM)
            .value_name("M")
            .default("0.9")
            .in_preset(Quick, "0.6"),
        Setting::real(
            "rest-lr",
            "Learning rate of what Muon leaves to Nesterov momentum (first convolution, classifier, biases, \
             batch norms), as a multiple of --lr",
            limits::MULTIPLE,
        )
        .value_name("MULTIPLE")
        .default("1")
        .in_preset(Quick, "0.5")
        .in_preset(Fast, "0.5")
        .came_with("lr-schedule"),
        Setting::real(
            "l2",
            "Strength of the L2 penalty on kernels; 0 by default with adamw",
            limits::L2,
        )
            .default("1e-4")
            .in_preset(Fast, "0"),
        Setting::real(
            "label-smoothing",
            "Share of a label's weight that is spread over all classes",
            limits::SMOOTHING,
        )
        .value_name("SHARE")
        .default("0")
        .in_preset(Fast, "0.2")
        .came_with("lr-schedule"),
        Setting::real(
            "weight-decay",
            "Decoupled weight decay: each step takes the current learning rate times this off each kernel; no part of the \
             loss, as --l2 is; 0.004 by default with adamw",
            limits::L2,
        )
        .value_name("SHARE")
        .default("0")
        .came_with("weight-decay"),
        Setting::real(
            "ema",
            "Keep a moving average of the weights; each step keeps this share of its old value. Validation, eval, predict, \
             export and report read it. 0: none",
            limits::MOMENTUM,
        )
        .value_name("SHARE")
        .default("0")
        .came_with("weight-decay"),
    ]
}

fn learning_rate() -> [Setting; 4] {
    [
        Setting::real(
            "lr",
            "Learning rate of the first epoch, or at the end of the warm-up",
            limits::LEARNING_RATE,
        )
        .value_name("RATE")
        .default("0.1")
        .in_preset(Fast, "0.08"),
        Setting::choice::<ScheduleChoice>(
            "lr-schedule",
            "How the learning rate changes after the warm-up",
        )
        .default("step")
        .in_preset(Quick, "one-cycle")
        .in_preset(Fast, "one-cycle")
        .came_with("lr-schedule"),
        Setting::new(
            "lr-drops",
            "Learning rates of later epochs, or none; for the schedule `step` alone",
            str::parse::<LearningRateDrops>,
        )
        .value_name("EPOCH:RATE,...")
        .shape(|arg| arg.allow_hyphen_values(true))
        .default("80:0.01,120:0.001")
        .in_preset(Quick, "none")
        .in_preset(Fast, "none"),
        Setting::whole::<u64>(
            "warmup",
            "Steps in which the learning rate rises to --lr in a straight line, fewer than the run has",
            limits::WARMUP,
        )
        .value_name("STEPS")
        .default("0")
        .came_with("lr-schedule"),
    ]
}

fn batches() -> [Setting; 9] {
    [
        Setting::whole::<u64>(
            "seed",
            "Seed of weights, data order and augmentation",
            limits::SEED,
        )
        .default("0"),
        Setting::choice::<Augment>("augment", "Augmentation of the training images")
            .default("keras")
            .in_preset(Quick, "translate")
            .in_preset(Fast, "translate"),
        Setting::whole::<usize>(
            "cutout",
            "Rows and columns of a square that each training image loses; 0: none",
            limits::CUTOUT,
        )
        .default("0")
        .in_preset(Fast, "12")
        .came_with("cutout"),
        Setting::real(
            "mixup",
            "Blend each training image, and its label, with another of its batch, by shares from the beta distribution \
             Beta(ALPHA, ALPHA); 0: none",
            limits::MIX,
        )
        .value_name("ALPHA")
        .default("0")
        .came_with("weight-decay"),
        Setting::real(
            "cutmix",
            "Paste a square of another image of its batch into each training image, and mix the labels by its area, which \
             comes from Beta(ALPHA, ALPHA); 0: none",
            limits::MIX,
        )
        .value_name("ALPHA")
        .default("0")
        .came_with("weight-decay"),
        Setting::whole::<u64>("steps-per-epoch", "Steps in an epoch", limits::STEPS)
            .stated("all whole batches of the data"),
        Setting::whole::<u64>(
            "max-steps",
            "Stop after this many steps in all, even if epochs are left. A resumed run keeps it, unless \
             --max-steps or --epochs is given again",
            limits::ALL_STEPS,
        )
        .free(),
        Setting::whole::<u64>("eval-steps", "Batches of each validation", limits::STEPS)
            .stated("all images that it has"),
        Setting::flag("no-shuffle", "Take the training images in file order"),
    ]
}

/// The data set and its folder.
fn data() -> [Setting; 6] {
    [
        Setting::choice::<DatasetKind>("dataset", "Images to train and test on")
            .default("cifar10")
            .in_preset(Quick, "sample"),
        Setting::new(
            "validation-split",
            "Validate on N training images, or on this share of them, which are not trained on: the last in file order, of \
             pictures the same share of each class; 0: on what the data set has for it",
            str::parse::<HeldOut>,
        )
        .value_name("N|SHARE")
        .default("0")
        .came_with("cutout"),
        Setting::whole::<usize>(
            "image-size",
            "Rows and columns of the images that pictures of a folder or of Parquet files become",
            limits::IMAGE_SIZE,
        )
        .value_name("S")
        .stated("32; other data sets have their own")
        .came_with("skip-bad"),
        Setting::flag(
            "skip-bad",
            "Leave out pictures that cannot be read, instead of refusing all of them",
        )
        .came_with("skip-bad"),
        Setting::new(
            "cache-memory",
            "Keep decoded pictures of more bytes than this in a file next to the run's folder instead of in memory; a later \
             start reads it and need not decode them again",
            str::parse::<Size>,
        )
        .value_name("SIZE")
        .stated("three quarters of the free memory")
        .free(),
        Setting::path(
            "data-dir",
            "Folder of the files of CIFAR-10 or CIFAR-100, downloaded there on first use, or of your pictures or Parquet files; or your .npz file",
        )
        .value_name("DIR")
        .default(data::DEFAULT_FOLDER)
        .stated("data; for an existing run, the folder it used")
        .free(),
    ]
}

/// The run's folder and checkpoints, and its progress display.
fn run() -> [Setting; 8] {
    [
        Setting::path("out-dir", "Folder of the run")
            .value_name("DIR")
            .default("runs/keras")
            .in_preset(Quick, "runs/quick")
            .in_preset(Fast, "runs/fast")
            .in_preset(Fast95, "runs/fast95")
            .stated("runs/PRESET")
            .free(),
        Setting::path(
            "init-weights",
            "Start from these weights (.safetensors) instead of random ones; with another number of classes, from all but \
             the last layer",
        )
        .value_name("FILE")
        .free(),
        Setting::new(
            "freeze-until",
            "Leave the first layers as they are, the named ones included: stem, stage1, stage2, ...; their batch norms \
             normalise by their moving statistics",
            freezable_name,
        )
        .value_name("STAGE")
        .came_with("stage-units"),
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
        Setting::whole::<u64>(
            "log-every",
            "Steps between points of TensorBoard's curves of steps, and of the report's running epoch",
            limits::STEPS,
        )
        .default("50")
        .came_with("log-every")
        .free(),
        Setting::whole::<u64>(
            "profile",
            "Record where the time of this many steps goes, from the first one of this start: profile.json, and what the \
             device does, if its plugin tells, for TensorBoard",
            limits::PROFILED,
        )
        .value_name("STEPS")
        .free(),
        Setting::choice::<ProgressMode>("progress", "How to show progress on the terminal")
            .default("auto")
            .free(),
    ]
}
