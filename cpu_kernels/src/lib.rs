//! The fused layers of the network for XLA's CPU backend.
//!
//! XLA's CPU backend writes every activation to memory and reads it back several times between two
//! products, and its small convolutions use a fraction of the processor. A kernel here does a
//! normalisation, the ReLU and the convolution that follows in one pass, and the same backwards: what
//! is computed in between never leaves the cache. A graph calls the kernels by name, as custom calls; the
//! crate `kernel_contract` says what a call takes and gives.
//!
//! ```text
//!  XLA ─► calls ─► pointwise ─┐                      ┌─► norm   normalise, ReLU, sums
//!                  conv3x3   ─┴─► tasks (a thread ───┤
//!                                 for each share)    └─► gemm   products of a tile
//! ```
//!
//! The kernels need an x86-64 processor with AVX2. Elsewhere [`supported`] is false, and the graph is
//! made of XLA's own operations.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod isa;

#[cfg(not(target_arch = "x86_64"))]
pub use absent::{register, supported};
#[cfg(target_arch = "x86_64")]
pub use avx2::{conv3x3, layer, norm, pointwise, register, supported};
pub use isa::{Isa, IsaError};
