//! Global average pooling.

use xla::{PrimitiveType, XlaOp};

use crate::arrays::{cast, scalar_like, to_i64};
use crate::error::Result;

/// `y[n, c] = mean over h, w of x[n, h, w, c]`. Takes `[N, H, W, C]` of any precision, gives `[N, C]` in
/// f32.
pub fn forward(x: &XlaOp) -> Result<XlaOp> {
    let dims = x.dims()?;
    let sum = cast(x, PrimitiveType::F32)?.reduce_sum(&[1, 2], false)?;
    let area = scalar_like(&sum, (dims[1] * dims[2]) as f32)?;
    Ok((sum / area)?)
}

/// `dx[n, h, w, c] = dy[n, c] / (H·W)`, for `x` of dimensions `x_dims` `[N, H, W, C]`.
pub fn backward(x_dims: &[usize], dy: &XlaOp) -> Result<XlaOp> {
    let area = scalar_like(dy, (x_dims[1] * x_dims[2]) as f32)?;
    let share = (dy / area)?;
    Ok(share.broadcast_in_dim(&to_i64(x_dims), &[0, 3])?)
}
