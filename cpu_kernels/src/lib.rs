//! The fused layers of the network for XLA's CPU backend.
//!
//! XLA's CPU backend writes every activation to memory and reads it back several times between two
//! products, and its small convolutions use a fraction of the processor. A kernel here does a
//! normalisation, the ReLU and the convolution that follows in one pass, and the same backwards: what
//! is computed in between never leaves the cache. A graph calls the kernels by name, as custom calls of XLA's FFI; the
//! crate `kernel_contract` says what a call takes and gives.
//!
//! ```text
//!  XLA ─► ffi ─► calls ─► pointwise ─┐                      ┌─► norm, result   normalise, ReLU, sums
//!                         conv3x3   ─┴─► tasks (a thread ───┤
//!                                        for each share)    └─► gemm           products of a tile or an image
//!
//!                         each over   format   f32 or bf16
//!                                     sets     one instruction set each
//! ```
//!
//! A kernel is written once, and gives the same bits on every instruction set but AMX, whose tiles take the sums of bf16
//! in an order of their own. The kernels need an x86-64 processor with AVX2. Elsewhere [`supported`] is false, and the graph is made of XLA's own operations.

#![cfg_attr(
    not(feature = "xla"),
    allow(
        dead_code,
        reason = "some of it is only for making the kernels known to the XLA runtime"
    )
)]

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod ffi;
pub mod isa;
#[cfg(target_arch = "x86_64")]
mod registry;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
use absent::has_tiles;
#[cfg(not(target_arch = "x86_64"))]
pub use absent::{handlers, isa, register};
pub use isa::{Isa, IsaError};
/// The version of the plans that the kernels understand.
pub use kernel_contract::plan::VERSION as PLAN_VERSION;

#[cfg(target_arch = "x86_64")]
pub use registry::handlers;
#[cfg(all(target_arch = "x86_64", feature = "xla"))]
pub use registry::register;
#[cfg(target_arch = "x86_64")]
use x86::has_tiles;
#[cfg(target_arch = "x86_64")]
pub use x86::{conv3x3, format, inference, isa, layer, multiply_adds, norm, pointwise};

/// The platform of XLA's CPU backends, on which programs find the kernels.
pub const PLATFORM: &str = "Host";

/// Why a kernel cannot be made known to the XLA runtime.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the XLA runtime does not take the kernels: {0}")]
pub struct RegisterError(pub(crate) String);

/// Whether the kernels run in this process: the processor can run them, and nobody chose [`Isa::Generic`].
pub fn supported() -> bool {
    isa() != Isa::Generic
}
