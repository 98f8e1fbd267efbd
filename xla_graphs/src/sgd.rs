//! Stochastic gradient descent with momentum, as Keras's `SGD(momentum)`.

use xla::XlaOp;

use crate::Result;
use crate::ops::scalar_like;

/// v' = momentum · v − learning_rate · gradient; w' = w + v'. Returns (w', v').
///
/// All arrays have the shape of `weight`; `learning_rate` is a scalar.
pub fn update(
    weight: &XlaOp,
    velocity: &XlaOp,
    gradient: &XlaOp,
    learning_rate: &XlaOp,
    momentum: f32,
) -> Result<(XlaOp, XlaOp)> {
    let kept = (velocity * scalar_like(velocity, momentum)?)?;
    let velocity = (kept - (gradient * learning_rate)?)?;
    let weight = (weight + &velocity)?;
    Ok((weight, velocity))
}
