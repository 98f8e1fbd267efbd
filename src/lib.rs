//! Trains residual networks as **one XLA program**.
//!
//! The network, its loss, its hand-derived backward pass and the update of its weights are traced once from Rust,
//! compiled once by PJRT for TPU, GPU or CPU, and fed with normalised, augmented batches by a small host loop. No
//! Python runs at any point of a training run.
//!
//! ```text
//!  .bin files ─► data ─► device ─► model ─► run ─────────────► show
//!                batches on time   one step,     the loop:      curves, events,
//!                by worker threads compiled once checkpoints,   report, progress
//!                                     ▲          history
//!                                xla_graphs (what is compiled)
//! ```
//!
//! # Running it
//!
//! ```sh
//! ./setup && cargo run --release -- --preset quick         # eleven layers on a sample, in a minute
//! cargo run --release                                      # ResNet-164 on CIFAR-10, 100 epochs
//! cargo run --release -- --resume                          # go on with a run that was stopped
//! cargo run --release -- predict --checkpoint runs/quick   # ten predictions and a picture of them
//! ```
//!
//! `README.md` goes on from there, and every option is in `--help`. What a run leaves in its folder is in
//! [`run::run_dir`]; what it says on its way out, in [`cli::exit`].
//!
//! # The rooms, lowest first
//!
//! A room uses those above it in this table and never one below. A test reads every `use` and holds it to that;
//! `docs/architecture.md` has every file and the reasons.
//!
//! | room | what it has |
//! | --- | --- |
//! | [`system`] | files that are complete or absent, locks, signals, the log |
//! | [`data`] | from images on disk to batches in memory |
//! | [`device`] | TPU, GPU, CPU and the plugins that drive them |
//! | [`model`] | the traced network on its device: [`model::program`] compiles once and runs steps |
//! | [`score`] | what logits are worth |
//! | [`run`] | the loop ([`run::trainer`]), checkpoints, history; an [`Observer`](run::observer::Observer) is told how it goes |
//! | [`show`] | progress, plots, TensorBoard, the report: observers |
//! | [`bench`](mod@bench) | how fast this machine is |
//! | [`compile`] | compiling for chips that are not there |
//! | [`predict`] | a trained network as a library: [`predict::Classifier`] |
//! | [`export`] | a trained network as a file for other programs |
//! | [`import`] | weights of other programs as a network of this one |
//! | [`cli`] | options, settings, commands |
//!
//! The graphs are a crate of their own, [`xla_graphs`]: a [`Model`](xla_graphs::Model) goes in, a computation comes out.
//! [`cpu_kernels`] has the fused layers that it calls on a CPU, [`pjrt`] the C API of compilers and devices.

pub mod bench;
pub mod cli;
pub mod compile;
pub mod data;
pub mod device;
pub mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod import;
pub mod model;
pub mod predict;
pub mod run;
pub mod score;
pub mod show;
pub mod system;
