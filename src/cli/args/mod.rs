//! The command line: clap types only, those of each command in a file of its own. `config` decides what the options
//! mean together.

mod bench;
mod checkpoint;
mod compile;
mod doctor;
mod eval;
mod export;
mod fetch;
mod import;
mod network;
mod plot;
mod predict;
mod report;
mod runs;
mod shell;
mod summary;

use clap::{Parser, Subcommand};

pub use crate::cli::options::{DataArgs, DeviceArgs, NamedOptions, TrainArgs};
pub use bench::BenchArgs;
pub use checkpoint::{CheckpointArgs, DEFAULT_RUN};
pub use compile::CompileArgs;
pub use doctor::DoctorArgs;
pub use eval::EvalArgs;
pub use export::{ExportArgs, ExportProgramArgs};
pub use fetch::FetchArgs;
pub use import::ImportArgs;
pub use network::NetworkArgs;
pub use plot::PlotArgs;
pub use predict::{JsonForm, PredictArgs};
pub use report::ReportArgs;
pub use runs::RunsArgs;
pub use shell::{CompletionsArgs, ManArgs};
pub use summary::SummaryArgs;

const EXAMPLES: &str = "\
Examples:
  resnet-xla --preset quick              train a small network on the embedded sample
  resnet-xla --preset fast               about 94 % of CIFAR-10 in less than an hour on 2 cores
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
  resnet-xla eval --checkpoint runs/fast --tta flip
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
