//! The kernels on AVX2 registers.

mod calls;
pub mod conv3x3;
mod gemm;
pub mod layer;
pub mod norm;
pub mod pointwise;
mod tasks;

pub use calls::register;
pub use gemm::supported;
