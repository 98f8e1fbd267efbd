//! The fused layers of the network for XLA's CPU backend.
//!
//! XLA's CPU backend writes every activation to memory and reads it back several times between two
//! products, and computes small convolutions far below what the processor can do. The kernels here
//! do a normalisation, the ReLU and the convolution behind it in one pass, and the same backwards:
//! what lies between never leaves the cache. A graph calls them by name as custom calls
//! ([`calls`]); `xla_graphs::ops::kernels` is the other side of that contract.

pub mod calls;
pub mod conv3x3;
pub mod gemm;
pub mod isa;
pub mod layer;
pub mod norm;
pub mod pointwise;

pub use calls::register;
pub use gemm::supported;
pub use isa::{Isa, IsaError};
