//! The average of the weights over the steps, kept beside them (Polyak & Juditsky 1992; Keras's `use_ema`).

use xla::XlaOp;

use crate::arrays::blend;
use crate::error::Result;

/// The name of the average's array: its tensor for a weight is called `average/<weight>`.
pub const SLOT: &str = "average";

/// The average after a step: kept · average + (1 − kept) · weights. It begins with the first weights.
pub fn moved(average: &XlaOp, weights: &XlaOp, kept: f64) -> Result<XlaOp> {
    blend(average, weights, kept)
}
