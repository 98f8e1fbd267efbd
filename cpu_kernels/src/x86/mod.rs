//! The kernels on the registers of x86-64 processors.

mod aligned;
mod calls;
pub mod conv3x3;
pub mod format;
mod gemm;
pub mod inference;
pub mod layer;
pub mod norm;
mod padded;
mod parts;
mod peak;
pub mod pointwise;
mod pool;
mod prefetch;
mod result;
mod sets;
mod tasks;
mod tiles;
mod walk;
mod winograd;

pub use calls::{HANDLERS, isa};
pub use peak::multiply_adds;

/// Whether this processor has the tiles of [`Isa::Amx`](crate::Isa::Amx), and the system gives them to this process.
pub fn has_tiles() -> bool {
    sets::Amx::new().is_some()
}
