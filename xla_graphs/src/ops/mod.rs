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
mod channels;
pub mod conv;
pub mod dense;
pub mod kernels;
pub mod loss;
mod lowering;
pub mod max_pool;
pub mod overlapping_pool;
pub mod pool;
pub mod relu;
pub mod widen;

pub use lowering::Lowering;
