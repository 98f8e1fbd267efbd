//! The layers. Each `forward` stands beside its `backward`, with the formula in its comment.
//!
//! ```text
//!            forward                          backward
//!  params ─┐                        params ─┐
//!  x ──────┴─► layer ─┬─► y         dy ─────┼─► layer ─┬─► dx
//!                     └─► saved ───────────►┘          └─► gradients, by name
//! ```
//!
//! Images are `[N, H, W, C]`, kernels HWIO, dense kernels `[in, out]`: the same as Keras.

pub mod batch_norm;
#[cfg(feature = "trace")]
mod channels;
pub mod conv;
#[cfg(feature = "trace")]
mod convolve;
pub mod dense;
#[cfg(feature = "trace")]
pub mod kernels;
#[cfg(feature = "trace")]
pub mod loss;
mod lowering;
#[cfg(feature = "trace")]
pub mod max_pool;
pub mod overlapping_pool;
#[cfg(feature = "trace")]
pub mod pool;
#[cfg(feature = "trace")]
pub mod relu;
pub mod widen;

pub use lowering::Lowering;
