//! Rectified linear unit.

use xla::XlaOp;

use crate::arrays::scalar_like;
use crate::error::Result;

/// y = max(x, 0), any shape.
pub fn forward(x: &XlaOp) -> Result<XlaOp> {
    Ok(x.max(&scalar_like(x, 0.0)?)?)
}

/// dx = dy where y > 0, else 0. `y` is the result of [`forward`]; the derivative at 0 is 0, as in
/// TensorFlow.
pub fn backward(y: &XlaOp, dy: &XlaOp) -> Result<XlaOp> {
    Ok(active(y)?.select(dy, &dy.zeros_like()?)?)
}

/// [`backward`], but written so that no compiler sees that its mask is that of [`active`]: `y` is never below 0. A TPU's
/// compiler stores a mask that three operations read, and works out again in each what no more than two do.
pub fn backward_again(y: &XlaOp, dy: &XlaOp) -> Result<XlaOp> {
    let active = y.ne(&scalar_like(y, 0.0)?)?;
    Ok(active.select(dy, &dy.zeros_like()?)?)
}

/// Where y > 0: what [`backward`] lets through.
pub fn active(y: &XlaOp) -> Result<XlaOp> {
    Ok(y.gt(&scalar_like(y, 0.0)?)?)
}
