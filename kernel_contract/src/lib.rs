//! What the traced graph and the CPU's kernels agree on. Both sides compile against this crate, so
//! neither has a name, an order of numbers or a constant of its own.
//!
//! ```text
//!  xla_graphs                                                      cpu_kernels
//!  plan ─► encode ─► s32 constant ──┐                         ┌──► decode ─► plan
//!          round of the loop (s32) ─┼─► custom call, by name ─┤
//!          arrays (f32) ────────────┘                         └──► addresses
//! ```
//!
//! A call's operands are its plan, the number of the round of a loop (0 outside one), and then the
//! arrays. The plan says which layer it is and where in the operands each array begins. Its first
//! numbers are a header ([`plan::HEADER`]), which the kernel checks before it reads anything else.

mod layer;
mod numbers;
pub mod plan;

pub use layer::Layer;
pub use plan::{Plan, PlanError};

/// ε of batch normalisation (Keras's default).
pub const EPSILON: f32 = 1e-3;

/// Channels that a kernel works on at a time. Each layer has a multiple of it.
pub const LANES: usize = 16;

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    LayerForward,
    LayerBackward,
    NormBackward,
    Part,
    Unwritten,
}

impl Kernel {
    /// The name under which XLA knows the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerForward => "resnet_layer_forward",
            Self::LayerBackward => "resnet_layer_backward",
            Self::NormBackward => "resnet_norm_backward",
            Self::Part => "resnet_part",
            Self::Unwritten => "resnet_unwritten",
        }
    }
}
