//! What the traced graph and the CPU's kernels agree on. Both sides compile against this crate, so
//! neither has a name, an order of numbers or a constant of its own.
//!
//! ```text
//!  xla_graphs                                                      cpu_kernels
//!  plan ─► encode ─► attribute ─────┐                         ┌──► decode ─► plan
//!          round of the loop (s32) ─┼─► custom call, by name ─┼──► operands
//!          arrays ──────────────────┘                         └──► results
//! ```
//!
//! A call has its plan as an attribute ([`PLAN`]), and as operands the number of the round of a loop (0 outside one) and
//! then the arrays. The plan says which layer it is, where in the operands each array begins, and which arrays come out
//! ([`Plan::results`]). Its first numbers are a header ([`plan::HEADER`]), which the kernel checks before it reads
//! anything else.

mod array;
mod codec;
mod error;
mod format;
mod kernel;
mod layer;
mod numbers;
pub mod plan;

pub use array::Array;
pub use codec::Plan;
pub use error::PlanError;
pub use format::Format;
pub use kernel::{Kernel, LANES, PLAN};
pub use layer::Layer;

/// ε of batch normalisation (Keras's default).
pub const EPSILON: f32 = 1e-3;
