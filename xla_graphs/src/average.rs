//! The average of the weights over the steps, kept beside them (Polyak & Juditsky 1992; Keras's `use_ema`).

#[cfg(feature = "trace")]
use {crate::arrays::scalar_like, crate::error::Result, xla::XlaOp};

/// The name of the average's array: its tensor for a weight is called `average/<weight>`.
pub const SLOT: &str = "average";

/// The average after a step: average + (1 − kept) · (weights − average). It begins with the first weights,
/// and in this form stays exactly where it is as long as they do.
#[cfg(feature = "trace")]
pub fn moved(average: &XlaOp, weights: &XlaOp, kept: f64) -> Result<XlaOp> {
    let share = scalar_like(average, (1.0 - kept) as f32)?;
    Ok((average + ((weights - average)? * share)?)?)
}
