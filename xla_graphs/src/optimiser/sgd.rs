//! Stochastic gradient descent with momentum, as Keras's `SGD(momentum)`.

use xla::XlaOp;

use crate::arrays::scalar_like;
use crate::error::Result;
use crate::optimiser::rule::{Optimiser, Update, Updated};
use crate::optimiser::slots;

/// Stochastic gradient descent with `momentum`. It keeps a velocity v for each weight w:
/// v' = momentum · v − learning_rate · gradient; w' = w + v'.
pub fn sgd(momentum: f32) -> Optimiser {
    Optimiser::new("sgd", slots::SGD, move |update| step(update, momentum))
}

/// [`sgd`] that looks ahead (Nesterov), as Keras's `SGD(momentum, nesterov=True)`:
/// v' = momentum · v − learning_rate · gradient; w' = w + momentum · v' − learning_rate · gradient.
pub fn nesterov(momentum: f32) -> Optimiser {
    Optimiser::new("nesterov", slots::SGD, move |update| {
        let slope = (update.gradient * update.learning_rate)?;
        let velocity = velocity(update, momentum)?;
        let ahead = (&velocity * scalar_like(&velocity, momentum)?)?;
        Ok(Updated {
            weights: ((update.weights + ahead)? - slope)?,
            slots: vec![velocity],
        })
    })
}

/// momentum · v − learning_rate · gradient.
fn velocity(update: &Update, momentum: f32) -> Result<XlaOp> {
    let velocity = &update.slots[0];
    let kept = (velocity * scalar_like(velocity, momentum)?)?;
    Ok((kept - (update.gradient * update.learning_rate)?)?)
}

fn step(update: &Update, momentum: f32) -> Result<Updated> {
    let velocity = velocity(update, momentum)?;
    let weights = (update.weights + &velocity)?;
    Ok(Updated {
        weights,
        slots: vec![velocity],
    })
}
