//! Residual networks traced into XLA computations: forward pass, hand-derived backward pass and
//! update in one program.
//!
//! This crate only builds graphs. It opens no device, reads no file and starts no thread; give it a
//! [`Model`] and it returns a serialised `HloModuleProto` whose inputs and outputs follow the model's
//! [`Layout`].
//!
//! ```text
//!  step         the computations: forward, loss, backward, update
//!  model        everything that shapes them
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
//!
//! Without the feature `trace` there is no XLA: networks, tensors and models are as ever, and
//! `absent` stands in for `step`.

#![cfg_attr(
    not(feature = "trace"),
    allow(
        dead_code,
        reason = "some of what a network is only matters to tracing"
    )
)]

#[cfg(not(feature = "trace"))]
mod absent;
#[cfg(feature = "trace")]
mod arrays;
pub mod average;
pub mod collective;
mod error;
#[cfg(feature = "trace")]
mod loops;
pub mod model;
pub mod network;
pub mod ops;
pub mod optimiser;
#[cfg(feature = "trace")]
mod step;
pub mod table;
#[cfg(feature = "trace")]
pub mod tensors;
#[cfg(feature = "trace")]
mod trained;

#[cfg(not(feature = "trace"))]
pub use absent::{eval_step, predict_step, train_step};
pub use error::{GraphError, Result};
pub use model::Model;
pub use network::{Architecture, Precision, ResNet};
pub use optimiser::Optimiser;
#[cfg(feature = "trace")]
pub use step::{eval_step, predict_step, train_step};
pub use table::{Init, Layout, TensorSpec};
