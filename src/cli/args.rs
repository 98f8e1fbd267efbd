//! The command line: clap types only. `config` decides what the options mean together.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use crate::cli::options::{DataArgs, DeviceArgs, NamedOptions, TrainArgs};
use crate::compile::Step;
use crate::compile::target::Target;
use crate::data::{Augment, DatasetKind, Tta};
use crate::device::DeviceKind;
use crate::export::Format;
use crate::import::Channels;
use crate::model::choose::{BatchNormMode, LoweringChoice, PrecisionChoice, UnitsChoice};
use crate::model::network::{BlockChoice, NetworkKind, StageUnits, Widths};
use crate::model::optimisers::OptimiserKind;
use crate::run::checkpoint::WeightsChoice;
use crate::system::limits::{self, whole};

const EXAMPLES: &str = "\
Examples:
  resnet-xla --preset quick              train a small network on the embedded sample
  resnet-xla                             train ResNet-164 on CIFAR-10 as the Keras tutorial does
  resnet-xla --depth 20 --epochs 2       the same on a smaller network
  resnet-xla --device tpu                the same on a TPU; never falls back
  resnet-xla eval                        score the last checkpoint of runs/keras

Exit codes: 0 done, 1 runtime error, 2 usage, 3 data or checksum, 4 device unavailable,
5 non-finite loss. A signal that ends the run after saving: 128 and its number, so 130 for SIGINT
(Ctrl-C), 143 for SIGTERM, 129 for SIGHUP, 138 for SIGUSR1, 140 for SIGUSR2, 152 for SIGXCPU.";

/// Trains residual networks as one XLA program on TPU, GPU or CPU.
#[derive(Parser, Debug)]
#[command(name = "resnet-xla", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub train: TrainArgs,

    /// Log more: -v for debug messages, -vv for XLA's own log as well
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a network (the default without a subcommand)
    #[command(
        args_override_self = true,
        after_help = "\
Examples:
  resnet-xla train --preset quick
  resnet-xla train --depth 20 --epochs 2 --out-dir runs/depth20"
    )]
    Train(Box<TrainArgs>),

    /// Download and verify CIFAR-10, then show a few images
    #[command(after_help = "\
Examples:
  resnet-xla fetch
  resnet-xla fetch --data-dir /datasets/cifar10")]
    Fetch(FetchArgs),

    /// Print the layers of a network with shapes, parameters, FLOPs and memory
    #[command(after_help = "\
Examples:
  resnet-xla summary
  resnet-xla summary --model wrn-28-10
  resnet-xla summary --model custom --stage-units 1,1 --widths 32,64 --block bottleneck
  resnet-xla summary --depth 20 --json")]
    Summary(SummaryArgs),

    /// Score a checkpoint on the test images: loss, accuracy, top-5, classes, confusion matrix
    #[command(after_help = "\
Examples:
  resnet-xla eval --checkpoint runs/keras
  resnet-xla eval --checkpoint runs/keras --steps 10 --json")]
    Eval(EvalArgs),

    /// Classify the first ten test images, or your own, with a checkpoint
    #[command(after_help = "\
Examples:
  resnet-xla predict --checkpoint runs/keras
  resnet-xla predict --checkpoint runs/keras --index 7,42,9999 --json
  resnet-xla predict --checkpoint runs/quick cat.png dog.jpg
  resnet-xla predict --checkpoint runs/quick --csv holiday/ > holiday.csv
  resnet-xla predict --checkpoint runs/quick --json=lines holiday/ | head
  resnet-xla predict cat.png              with the network that comes with the program, before there is a run")]
    Predict(PredictArgs),

    /// Plot accuracy and loss of one or more runs in the same axes, as PNG and SVG
    #[command(after_help = "\
Examples:
  resnet-xla plot runs/keras
  resnet-xla plot runs/depth20 runs/depth29 --out-dir plots/depths")]
    Plot(PlotArgs),

    /// Write the report.html of a run again, from its newest checkpoint, or a page that compares several runs
    #[command(after_help = "\
Examples:
  resnet-xla report runs/keras
  resnet-xla report --checkpoint runs/quick --dataset sample --out quick.html
  resnet-xla report runs/depth20 runs/depth29 --out depths.html")]
    Report(ReportArgs),

    /// List runs: state, epochs, best accuracy, time, and the settings that are not their preset's
    #[command(after_help = "\
Examples:
  resnet-xla runs
  resnet-xla runs /scratch/me --json")]
    Runs(RunsArgs),

    /// Write the trained network of a checkpoint, to use elsewhere
    #[command(after_help = "\
Examples:
  resnet-xla export --checkpoint runs/keras --out weights.safetensors
  resnet-xla export --checkpoint runs/keras --out model.onnx
  resnet-xla export --checkpoint runs/keras --out model.mlir --batch-size 64
  resnet-xla export --checkpoint runs/fast --bf16 --out small.safetensors
  python3 scripts/keras_weights.py to-keras weights.safetensors model.keras
  resnet-xla --init-weights weights.safetensors --out-dir runs/again")]
    Export(ExportArgs),

    /// Make a checkpoint of the weights of a PyTorch module
    #[command(after_help = "\
Examples:
  resnet-xla import --from resnet20.safetensors --depth 20 --out-dir runs/imported
  resnet-xla eval --checkpoint runs/imported
  resnet-xla import --from fast.safetensors --model fast --widths 128,256,384 --out-dir runs/fast-imported
  resnet-xla import --from resnet18.safetensors --model resnet18-v1 --class-names imagenet.txt --out-dir runs/imagenet

The file is a state_dict as safetensors: safetensors.torch.save_file(module.state_dict(), FILE).")]
    Import(ImportArgs),

    /// Time the training step of one configuration, or the host's side of it, on synthetic images
    #[command(after_help = "\
Examples:
  resnet-xla bench --depth 20
  resnet-xla bench --model fast --optimizer sgd
  resnet-xla bench --precision bf16 --steps 10 --json
  resnet-xla bench --ops --steps 10
  resnet-xla bench --input --augment crop
  resnet-xla bench --input --pictures holiday --image-size 224
  resnet-xla bench --host --batch-size 1024")]
    Bench(BenchArgs),

    /// Compile for a TPU without having one: time, memory, cycles and costliest operations
    #[command(after_help = "\
Examples:
  resnet-xla compile --target v5e:2x4
  resnet-xla compile --target v6e:2x4 --batch-per-chip 256 --json
  resnet-xla compile --target v5e:2x4 --step eval --save hlo/
  resnet-xla compile --target v5e:2x4 --batch-per-chip 16 --save-executable train.exe
  resnet-xla compile --target v5e:2x4 --model resnet50-v2 --batch-per-chip 64
  resnet-xla compile --target cpu --depth 20

Needs libtpu (`./setup tpu`) but no TPU; --target cpu needs the CPU plugin (`./setup cpu-plugin`).")]
    Compile(CompileArgs),

    /// Show which runtime, plugins and devices are found, and what is wrong
    #[command(after_help = "\
Examples:
  resnet-xla doctor
  TPU_LIBRARY_PATH=/opt/libtpu.so resnet-xla doctor")]
    Doctor(DoctorArgs),

    /// Print shell completions
    #[command(after_help = "\
Examples:
  resnet-xla completions bash > ~/.local/share/bash-completion/completions/resnet-xla
  resnet-xla completions fish > ~/.config/fish/completions/resnet-xla.fish")]
    Completions(CompletionsArgs),

    /// Print the manual page of the program, or of one command
    #[command(after_help = "\
Examples:
  resnet-xla man > ~/.local/share/man/man1/resnet-xla.1
  resnet-xla man eval | man -l -")]
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub struct FetchArgs {
    #[command(flatten)]
    pub data: DataArgs,
}

#[derive(Args, Debug)]
pub struct SummaryArgs {
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The network of commands that need no run.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Kind of network
    #[arg(long, default_value = "resnet-v2")]
    pub model: NetworkKind,

    /// Layers of resnet-v2, 9n+2 [default: 164]
    #[arg(long, value_name = "N", value_parser = limits::depth)]
    pub depth: Option<usize>,

    /// Channels of the stages: of the model fast three multiples of 16, of custom and custom-v1 one number for each of
    /// --stage-units [default: 128,256,384 for fast, 16,32,64 for the others]
    #[arg(long, value_name = "A,B,C", value_parser = str::parse::<Widths>)]
    pub widths: Option<Widths>,

    /// Units of each stage of the models custom and custom-v1 [default: 2,2,2]
    #[arg(long, value_name = "A,B,C", value_parser = str::parse::<StageUnits>)]
    pub stage_units: Option<StageUnits>,

    /// Units of the models custom and custom-v1 [default: basic]
    #[arg(long)]
    pub block: Option<BlockChoice>,

    /// Rows and columns of the images [default: 32, or 224 for the layouts for ImageNet and for `bench --pictures`]
    #[arg(long, value_name = "S", value_parser = whole::<usize>(limits::IMAGE_SIZE))]
    pub image_size: Option<usize>,

    /// Classes [default: 10, or 1000 for the layouts for ImageNet]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(limits::CLASSES))]
    pub classes: Option<usize>,
}

/// The run that commands use which name no other.
pub const DEFAULT_RUN: &str = "runs/keras";

/// The trained weights, and the device and data to run them on.
#[derive(Args, Clone, Debug)]
pub struct CheckpointArgs {
    /// A .safetensors file, or a run's folder (its newest checkpoint)
    #[arg(long, default_value = DEFAULT_RUN, value_name = "PATH")]
    pub checkpoint: PathBuf,

    /// Which weights of the run to take [default: average, if the run has one]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub weights: Option<WeightsChoice>,

    /// Run the traced computations in this folder, which `export --program` wrote
    #[arg(long, value_name = "DIR")]
    pub program: Option<PathBuf>,

    /// Load the compiled computation in this file, which `compile --save-executable` wrote, instead of compiling it; may
    /// be given again for another computation
    #[arg(long, value_name = "FILE")]
    pub load_executable: Vec<PathBuf>,

    #[command(flatten)]
    pub device: DeviceArgs,

    #[command(flatten)]
    pub data: DataArgs,
}

#[derive(Args, Debug)]
pub struct EvalArgs {
    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Images in a step [default: 128, or those of --program]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: Option<u32>,

    /// Score only the first N batches [default: all test images]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(limits::STEPS))]
    pub steps: Option<u64>,

    /// Average the logits over views of each image, and print the accuracy of that too
    #[arg(long, value_enum, default_value = "none")]
    pub tta: Tta,

    /// Write the logits of all scored images, `[N, 10]` f32, as a NumPy file; without --tta's other views
    #[arg(long, value_name = "FILE.npy")]
    pub dump_logits: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct PredictArgs {
    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Pictures to classify (PNG, JPEG, WebP or BMP), or folders of them: rotated as their EXIF says, transparency
    /// replaced by white, cropped to the largest central square, resized to the network's size [default: the first ten
    /// test images]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Test images to classify, by index from 0
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = whole::<usize>(limits::TEST_INDEX),
        conflicts_with = "images"
    )]
    pub index: Vec<usize>,

    /// Where to write the picture of the predictions (of the first 100 if there are more)
    #[arg(long, default_value = "predictions.png", value_name = "FILE.png")]
    pub out: PathBuf,

    /// Print JSON instead of a table: an array, or with --json=lines a line for each image
    #[arg(
        long,
        group = "form",
        value_enum,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "array"
    )]
    pub json: Option<JsonForm>,

    /// The same as --json=lines
    #[arg(long, group = "form")]
    pub jsonl: bool,

    /// Print comma-separated values instead of a table: three classes with their probabilities
    #[arg(long, group = "form")]
    pub csv: bool,
}

/// How results are printed as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum JsonForm {
    /// One indented array
    Array,
    /// A line for each image, as soon as it is known
    Lines,
}

#[derive(Args, Debug)]
pub struct PlotArgs {
    /// Folders of runs, or history.csv files
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Folder to write the plots to
    #[arg(long, default_value = "plots", value_name = "DIR")]
    pub out_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    // Before the options, which are no longer among the matches once they are read.
    #[command(flatten)]
    pub named: NamedOptions,

    /// The folder of a run, as with --checkpoint; of several, their curves, results and settings are compared
    #[arg(value_name = "RUN", conflicts_with = "checkpoint")]
    pub runs: Vec<PathBuf>,

    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Where to write the page [default: report.html in the run's folder; of several runs, comparison.html]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct RunsArgs {
    /// The folder that has the runs, or folders with runs
    #[arg(default_value = "runs", value_name = "DIR")]
    pub folder: PathBuf,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Shell to print completions for
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct ManArgs {
    /// Command to describe [default: the program]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// A .safetensors file, or a run's folder (its newest checkpoint)
    #[arg(long, default_value = "runs/keras", value_name = "PATH")]
    pub checkpoint: PathBuf,

    /// Which weights of the run to take [default: average, if the run has one]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub weights: Option<WeightsChoice>,

    /// The file to write
    #[arg(long, value_name = "FILE", required_unless_present = "program")]
    pub out: Option<PathBuf>,

    /// What to write [default: as the name of the file ends]
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Store the values in bf16: half as many bytes, 8 instead of 24 significant bits; safetensors only
    #[arg(long)]
    pub bf16: bool,

    /// Images that the program takes at once; stablehlo only [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: Option<u32>,

    #[command(flatten)]
    pub program: ExportProgramArgs,
}

#[derive(Args, Debug)]
pub struct ExportProgramArgs {
    /// Write the traced computations of the run to this folder instead, for --program of train, eval, predict and
    /// report
    #[arg(long, value_name = "DIR", requires = "on", conflicts_with_all = ["out", "format", "bf16", "batch_size", "weights"])]
    pub program: Option<PathBuf>,

    /// The devices that will run them
    #[arg(long, value_enum, value_name = "KIND", requires = "program")]
    pub on: Option<DeviceKind>,

    /// Devices that share each batch [default: 1, or what --settings say]
    #[arg(long, value_name = "N", requires = "program", value_parser = whole::<usize>(limits::REPLICAS))]
    pub replicas: Option<usize>,

    /// A TOML file with settings of a run, as for `train -c` [default: those of --checkpoint]
    #[arg(
        long,
        value_name = "FILE",
        requires = "program",
        conflicts_with = "checkpoint"
    )]
    pub settings: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The state_dict of a PyTorch module, as .safetensors
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Folder to make, with the checkpoint in it
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,

    /// Kind of network
    #[arg(long, default_value = "resnet-v2")]
    pub model: NetworkKind,

    /// Layers of the network, 9n+2
    #[arg(long, default_value_t = 164, value_name = "N", value_parser = limits::depth)]
    pub depth: usize,

    /// Channels of the stages: of the model fast three multiples of 16, of custom and custom-v1 one number for each of
    /// --stage-units
    #[arg(long, default_value = Widths::OF_PRESET, value_name = "A,B,C", value_parser = str::parse::<Widths>)]
    pub widths: Widths,

    /// Units of each stage of the models custom and custom-v1
    #[arg(long, default_value = StageUnits::DEFAULT, value_name = "A,B,C", value_parser = str::parse::<StageUnits>)]
    pub stage_units: StageUnits,

    /// Units of the models custom and custom-v1
    #[arg(long, value_enum, default_value = "basic")]
    pub block: BlockChoice,

    /// Rows and columns of the images that it takes [default: 32; of networks of version 1: 224]
    #[arg(long, value_name = "S", value_parser = whole::<usize>(limits::IMAGE_SIZE))]
    pub image_size: Option<usize>,

    /// The images that it was trained on, which `eval` scores [default: cifar10; of networks of version 1: folder]
    #[arg(long, value_enum)]
    pub dataset: Option<DatasetKind>,

    /// A text file with the name of a class on each line [default: those of CIFAR-10 or CIFAR-100, or else numbers]
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,

    /// What is taken from red, green and blue, of pixels from 0 to 1 [default: 0.4914,0.4822,0.4465, CIFAR-10's; of networks
    /// of version 1: 0.485,0.456,0.406, ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub mean: Option<Channels>,

    /// What the rest is divided by [default: 0.2470,0.2435,0.2616; of networks of version 1: 0.229,0.224,0.225]
    #[arg(long, value_name = "R,G,B", value_parser = str::parse::<Channels>)]
    pub std: Option<Channels>,
}

#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Time the input pipeline instead: decode, augment and normalise, on one thread
    #[arg(long, group = "pipeline", conflicts_with_all = ["model", "depth", "widths", "stage_units", "block", "classes", "optimizer", "steps", "warmup", "init_weights"])]
    pub input: bool,

    /// Time it on the pictures in this folder, of any size, instead of noise; they become images of --image-size
    #[arg(long, value_name = "DIR", requires = "input")]
    pub pictures: Option<PathBuf>,

    /// Time the host's side of training instead: batches from the usual threads, first for an imaginary
    /// device that needs no time, then copied to the real one
    #[arg(long, group = "pipeline", conflicts_with_all = ["model", "depth", "widths", "stage_units", "block", "image_size", "classes", "optimizer", "steps", "warmup", "init_weights"])]
    pub host: bool,

    /// Time each operation of the step by itself: as CPU kernels and as XLA operations
    #[arg(long, conflicts_with_all = ["pipeline", "model", "image_size", "classes", "optimizer", "lowering", "replicas", "plugin"])]
    pub ops: bool,

    /// Formulation of the step for the compiler [default: the best for the device]
    #[arg(long, conflicts_with = "pipeline")]
    pub lowering: Option<LoweringChoice>,

    /// Augmentation of the images
    #[arg(long, default_value = "keras", requires = "pipeline")]
    pub augment: Augment,

    /// Epochs of 50,000 images, or of all --pictures, to time
    #[arg(long, default_value_t = 10, requires = "pipeline", value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub epochs: u32,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Images in a step
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_size: u32,

    /// Steps to time, or with --ops, runs of each operation
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub steps: u32,

    /// Warm-up steps, not timed; the first one touches memory that is new to the process
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = whole::<u32>(limits::TIMED))]
    pub warmup: u32,

    /// Update rule of the weights [default: that of the preset that trains the model]
    #[arg(long)]
    pub optimizer: Option<OptimiserKind>,

    /// Start from these weights (.safetensors) instead of random ones
    #[arg(long, value_name = "FILE")]
    pub init_weights: Option<PathBuf>,

    /// Time the traced training step in this folder, which `export --program` wrote
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pipeline", "ops", "lowering", "model", "widths", "depth", "batch_size"])]
    pub program: Option<PathBuf>,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Chips to compile for: v4, v5e, v5p or v6e with their topology, such as v5e:2x4; or cpu
    #[arg(long, value_name = "TARGET")]
    pub target: Target,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Images per chip in a step
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = whole::<u32>(limits::BATCH_SIZE))]
    pub batch_per_chip: u32,

    /// Number format of activations and kernels [default: bf16 on TPU, f32 on CPU]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// How equal units are traced: a loop compiles equally fast at any depth [default: unrolled]
    #[arg(long)]
    pub units: Option<UnitsChoice>,

    /// Statistics of batch normalisation: over all chips, or each chip's own [default: sync]
    #[arg(long)]
    pub bn: Option<BatchNormMode>,

    /// Computation to compile
    #[arg(long, default_value = "train")]
    pub step: Step,

    /// The compiler: a PJRT plugin [default: libtpu, or the CPU plugin, where ./setup puts it]
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,

    /// Save the optimised program (HLO) and the report in this folder
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,

    /// Save the compiled computation in this file, for --load-executable on a machine that has the chips
    #[arg(long, value_name = "FILE")]
    pub save_executable: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub device: DeviceArgs,

    #[command(flatten)]
    pub data: DataArgs,
}
