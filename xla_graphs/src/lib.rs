//! Residual networks traced into XLA computations: forward pass, hand-derived backward pass and
//! update in one program.
//!
//! This crate only builds graphs. It opens no device, reads no file and starts no thread; give it a
//! [`Model`] and it returns an [`xla::XlaComputation`] whose inputs and outputs follow the model's
//! [`Layout`].

pub mod collective;
mod error;
mod fused;
pub mod layout;
mod loops;
pub mod ops;
pub mod resnet;
pub mod sgd;
pub mod step;
pub mod tensors;
mod unit;
mod unit_loop;

pub use error::{GraphError, Result};
pub use layout::{Init, Layout, TensorSpec};
pub use resnet::ResNet;
pub use step::{Model, Precision, eval_step, predict_step, train_step};
