//! Each layer's gradient against central differences.

#[path = "../common/mod.rs"]
mod common;

mod batch_norm;
mod conv;
mod dense_and_relu;
mod loss;
mod pooling;

use xla::XlaOp;
use xla_graphs::Result;
use xla_graphs::tensors::Tensors;

/// The gradients of an operation with one input.
fn only(name: &str, gradient: XlaOp) -> Result<Tensors> {
    let mut gradients = Tensors::new();
    gradients.insert(name, gradient);
    Ok(gradients)
}
