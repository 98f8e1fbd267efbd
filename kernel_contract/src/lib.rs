//! What the traced graph and the CPU's kernels agree on. Both sides compile against this crate, so
//! neither has a name, an order of numbers or a constant of its own.
//!
//! ```text
//!  xla_graphs                                                      cpu_kernels
//!  plan ─► encode ─► s32 constant ──┐                         ┌──► decode ─► plan
//!          round of the loop (s32) ─┼─► custom call, by name ─┤
//!          arrays ──────────────────┘                         └──► addresses
//! ```
//!
//! A call's operands are its plan, the number of the round of a loop (0 outside one), and then the
//! arrays. The plan says which layer it is and where in the operands each array begins, in places of 32
//! bits ([`Format::places`]). Its first numbers are a header ([`plan::HEADER`]), which the kernel checks
//! before it reads anything else.

mod codec;
mod error;
mod format;
mod kernel;
mod layer;
mod numbers;
pub mod plan;

pub use codec::Plan;
pub use error::PlanError;
pub use format::Format;
pub use kernel::{Kernel, LANES};
pub use layer::Layer;

/// ε of batch normalisation (Keras's default).
pub const EPSILON: f32 = 1e-3;
