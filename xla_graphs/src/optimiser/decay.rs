//! Decoupled weight decay (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization").

use xla::XlaOp;

use crate::arrays::{scalar_like, to_i64};
use crate::error::Result;

/// Takes `learning_rate · strength · w` off the first `decaying` of the flat weights: `updated` are the
/// weights after the optimiser's step, w those before it. As Keras's `weight_decay`, it is no part of the
/// gradient, so no momentum and no adaptive step size changes it.
pub fn decayed(
    weights: &XlaOp,
    updated: XlaOp,
    decaying: usize,
    learning_rate: &XlaOp,
    strength: f32,
) -> Result<XlaOp> {
    if strength == 0.0 {
        return Ok(updated);
    }
    let spared = weights.dims()?[0] - decaying;
    let share = (learning_rate * scalar_like(learning_rate, strength)?)?;
    let spread = |share: &XlaOp, count: usize| share.broadcast_in_dim(&to_i64(&[count]), &[]);
    let zero = share.zeros_like()?;
    let shares = spread(&share, decaying)?.concat_in_dim(&[spread(&zero, spared)?], 0)?;
    Ok((updated - (weights * shares)?)?)
}
