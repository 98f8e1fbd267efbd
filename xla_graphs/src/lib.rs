//! Residual networks traced into XLA computations: forward pass, hand-derived backward pass and
//! update in one program.
//!
//! This crate only builds graphs. It opens no device, reads no file and starts no thread; give it a
//! [`Model`] and it returns an [`xla::XlaComputation`] whose inputs and outputs follow the model's
//! [`Layout`].
//!
//! ```text
//!  step         the computations: forward, loss, backward, update
//!   ├─ network      stem, units and head; the units one by one, in loops, on the CPU's kernels
//!   │   └─ ops          the layers, each with its gradient
//!   ├─ optimiser    from gradients to the next weights
//!   ├─ average      the average of the weights over the steps
//!   ├─ trained      the part of the weights that is not frozen
//!   └─ table        names, sizes and places of all tensors
//! ```
//!
//! A `use` points down this picture, never up. Below it lie `tensors` (values by name), `loops`,
//! `collective` (sums over replicas), `arrays` and `error`.

mod arrays;
pub mod average;
pub mod collective;
mod error;
mod loops;
pub mod network;
pub mod ops;
pub mod optimiser;
pub mod step;
pub mod table;
pub mod tensors;
mod trained;

pub use error::{GraphError, Result};
pub use network::{Architecture, Precision, ResNet};
pub use optimiser::Optimiser;
pub use step::{Model, eval_step, predict_step, train_step};
pub use table::{Init, Layout, TensorSpec};
