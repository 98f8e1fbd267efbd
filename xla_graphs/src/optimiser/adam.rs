//! Adam (Kingma & Ba 2015), as Keras's `Adam` and, with `Model::weight_decay`, its `AdamW`.

use xla::XlaOp;

use crate::arrays::{blend, scalar_like};
use crate::error::{GraphError, Result};
use crate::optimiser::rule::{Optimiser, Update, Updated};
use crate::optimiser::slots;

/// Share of the old value that the mean of the squared gradients keeps at each step.
const SQUARES_KEPT: f64 = 0.999;
/// Keeps a weight whose gradient is always 0 from being divided by 0.
const EPSILON: f32 = 1e-7;

/// Adam with `momentum` (β₁), β₂ = 0.999 and ε = 1e-7. With the gradient g, and t steps taken, this one
/// included:
///
/// m' = β₁ · m + (1 − β₁) · g; v' = β₂ · v + (1 − β₂) · g²;
/// w' = w − learning_rate · sqrt(1 − β₂ᵗ) / (1 − β₁ᵗ) · m' / (sqrt(v') + ε).
pub fn adam(momentum: f64) -> Optimiser {
    Optimiser::new("adam", slots::ADAM, move |update| step(update, momentum)).with_step_count()
}

fn step(update: &Update, momentum: f64) -> Result<Updated> {
    let count = update.step_count.ok_or(GraphError::NoStepCount)?;
    let gradient = update.gradient;
    let first = blend(&update.slots[0], gradient, momentum)?;
    let second = blend(&update.slots[1], &(gradient * gradient)?, SQUARES_KEPT)?;
    let correction =
        (begun(count, SQUARES_KEPT)?.sqrt()? / begun(count, momentum)?)? * update.learning_rate;
    let deviation = second.sqrt()?;
    let deviation = (&deviation + scalar_like(&deviation, EPSILON)?)?;
    let step = ((&first * correction?)? / deviation)?;
    Ok(Updated {
        weights: (update.weights - step)?,
        slots: vec![first, second],
    })
}

/// 1 − keptᵗ: what a mean that began with 0 has of the values since, after t = `count` steps.
fn begun(count: &XlaOp, kept: f64) -> Result<XlaOp> {
    // As e^(t · ln kept) − 1 without the rounding of a power near 1.
    let exponent = (count * scalar_like(count, kept.ln() as f32)?)?;
    Ok(exponent.expm1()?.neg()?)
}
