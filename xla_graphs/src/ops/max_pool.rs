//! Max pooling over squares of 2x2 pixels.

use xla::{ElementType, XlaOp};

use crate::arrays::{dims_of, scalar_like, to_i64};
use crate::error::Result;

/// Rows and columns of a square.
const SIDE: usize = 2;

/// What the backward pass needs from the forward pass.
pub struct Saved {
    /// Dimensions of the input, `[N, H, W, C]`.
    x_dims: [usize; 4],
    /// Which pixel of its square each value came from, row by row from 0: `[N, h, w, C]` s32.
    chosen: XlaOp,
}

/// `y[n, i, j, c] = max over a, b in {0, 1} of x[n, 2i + a, 2j + b, c]`: `[N, H, W, C]` to
/// `[N, ⌊H/2⌋, ⌊W/2⌋, C]`. The last row of an odd number of rows is left out, and so is the last column.
/// Of equal values the first counts, row by row.
pub fn forward(x: &XlaOp) -> Result<(XlaOp, Saved)> {
    let x_dims = dims_of(x, "[N, H, W, C]")?;
    let mut y = pixel(x, x_dims, 0)?;
    let number = |value: usize| -> Result<XlaOp> { Ok(x.builder().c0(value as i32)?) };
    let mut chosen = number(0)?.broadcast(&to_i64(&y.dims()?))?;
    for index in 1..SIDE * SIDE {
        let value = pixel(x, x_dims, index)?;
        let larger = value.gt(&y)?;
        chosen = larger.select(&(chosen.zeros_like()? + number(index)?)?, &chosen)?;
        y = y.max(&value)?;
    }
    Ok((y, Saved { x_dims, chosen }))
}

/// dx is dy at the pixels that [`forward`] chose, 0 elsewhere: `[N, ⌊H/2⌋, ⌊W/2⌋, C]` to `[N, H, W, C]`.
pub fn backward(saved: &Saved, dy: &XlaOp) -> Result<XlaOp> {
    let [_, height, width, _] = saved.x_dims;
    let [n, h, w, c] = dims_of(dy, "[N, h, w, C]")?;
    let squares = to_i64(&[n, h, SIDE, w, SIDE, c]);
    let in_square = |x: &XlaOp| x.broadcast_in_dim(&squares, &[0, 1, 3, 5]);
    let builder = dy.builder();
    let row = builder.iota(ElementType::S32, &squares, 2)?;
    let column = builder.iota(ElementType::S32, &squares, 4)?;
    let index = ((row * builder.c0(SIDE as i32)?)? + column)?;
    let values = in_square(dy)?;
    let dx = index
        .eq(&in_square(&saved.chosen)?)?
        .select(&values, &values.zeros_like()?)?
        .reshape(&to_i64(&[n, SIDE * h, SIDE * w, c]))?;
    let left_out = |side: usize| (0, (side % SIDE) as i64, 0);
    match (left_out(height), left_out(width)) {
        ((0, 0, 0), (0, 0, 0)) => Ok(dx),
        (rows, columns) => Ok(dx.pad(
            &scalar_like(dy, 0.0)?,
            &[(0, 0, 0), rows, columns, (0, 0, 0)],
        )?),
    }
}

/// The pixels at `index` of each square, row by row from 0: `[N, ⌊H/2⌋, ⌊W/2⌋, C]`.
fn pixel(x: &XlaOp, [_, height, width, _]: [usize; 4], index: usize) -> Result<XlaOp> {
    let every_second = |x: &XlaOp, first: usize, len: usize, dim: i64| {
        let end = (len / SIDE * SIDE) as i64;
        x.slice_in_dim(first as i64, end, SIDE as i64, dim)
    };
    let rows = every_second(x, index / SIDE, height, 1)?;
    Ok(every_second(&rows, index % SIDE, width, 2)?)
}
