//! ResNets trained as one XLA program.
//!
//! The network, its loss, its hand-derived backward pass and the update are traced once
//! ([`xla_graphs`]), compiled once by PJRT ([`program`]) and driven by a host loop ([`train`]) that
//! streams normalised, augmented batches ([`data`]) into it. `docs/architecture.md` draws the line
//! from the files on disk to the report.

pub mod arguments;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod compile;
pub mod config;
pub mod data;
pub mod device;
mod entry;
pub mod env_info;
pub mod evaluate;
pub mod exit;
pub mod files;
pub mod flags;
pub mod history;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod initialise;
pub mod limits;
pub mod lock;
pub mod logger;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod outputs;
pub mod picture_file;
pub mod pictures;
pub mod pjrt_c;
pub mod plot;
pub mod plugin_file;
pub mod plugins;
pub mod predict;
pub mod process;
pub mod program;
pub mod progress;
mod raster;
pub mod rehearsal;
pub mod replicas;
pub mod report;
pub mod reporter;
pub mod resume;
pub mod run_dir;
pub mod runtime;
pub mod schedule;
pub mod scores;
pub mod signals;
mod spelling;
pub mod state;
pub mod summary;
pub mod tensorboard;
pub mod text;
pub mod threads;
mod tilde;
pub mod train;
pub mod variables;
