//! The traced network on its device: which formulation, its state, its steps.
//!
//! ```text
//!  settings ─► choose ─► xla_graphs::Model ─► program (compiled once) ─► train, eval, predict steps
//!                                                ▲
//!                                          program_folder (traced elsewhere)
//!  seed ─────► initialise ─► state (on the host) ─► program ─► metrics
//! ```

pub mod choose;
pub mod initialise;
pub mod metrics;
pub mod network;
pub mod optimisers;
pub mod program;
pub mod program_folder;
pub mod state;
pub mod summary;
pub mod tracing;
pub mod whitening;
