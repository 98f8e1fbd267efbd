//! The traced network on its device: which formulation, its state, its steps.
//!
//! ```text
//!  settings ─► choose ─► xla_graphs::Model ─► program (compiled once) ─► train, eval, predict steps
//!                                                ▲
//!                                          program_folder (traced elsewhere)
//!  seed ─────► initialise ─► state (on the host) ─► program ─► metrics
//!  peers: what several processes tell each other, over their devices
//! ```

pub mod catalogue;
pub mod choose;
pub mod dirac;
pub mod initialise;
pub mod metrics;
pub mod network;
pub mod optimisers;
pub mod peers;
pub mod program;
pub mod program_folder;
pub mod shape_proto;
mod stages;
pub mod state;
pub mod sum;
pub mod summary;
pub mod tracing;
pub mod whitening;
