//! Stochastic gradient descent with momentum, as Keras's `SGD(momentum)`.

use crate::arrays::scalar_like;
use crate::error::Result;
use crate::optimiser::rule::{Optimiser, Update, Updated};

const SLOTS: &[&str] = &["momentum"];

/// Stochastic gradient descent with `momentum`. It keeps a velocity v for each weight w:
/// v' = momentum · v − learning_rate · gradient; w' = w + v'.
pub fn sgd(momentum: f32) -> Optimiser {
    Optimiser::new("sgd", SLOTS, move |update| step(update, momentum))
}

fn step(update: &Update, momentum: f32) -> Result<Updated> {
    let velocity = &update.slots[0];
    let kept = (velocity * scalar_like(velocity, momentum)?)?;
    let velocity = (kept - (update.gradient * update.learning_rate)?)?;
    let weights = (update.weights + &velocity)?;
    Ok(Updated {
        weights,
        slots: vec![velocity],
    })
}
