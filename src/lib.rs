//! ResNets trained as one XLA program.
//!
//! The network, its loss, its hand-derived backward pass and the update are traced once
//! ([`xla_graphs`]), compiled once by PJRT ([`model::program`]) and driven by a host loop ([`run::trainer`]) that
//! streams normalised, augmented batches ([`data`]) into it. `docs/architecture.md` draws the line
//! from the files on disk to the report.

pub mod bench;
pub mod cli;
pub mod compile;
pub mod data;
pub mod device;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;
pub mod run;
pub mod score;
pub mod show;
pub mod system;
