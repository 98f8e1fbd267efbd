//! Max pooling over squares of 3x3 pixels with stride 2: neighbouring squares share a row or a column.

#[cfg(feature = "trace")]
use {
    crate::arrays::{dims_of, scalar_like, to_i64},
    crate::error::Result,
    crate::ops::conv::Padding,
    xla::XlaOp,
};

/// Rows and columns of a square.
pub const SIDE: usize = 3;
pub const STRIDE: usize = 2;

/// What the backward pass needs from the forward pass.
#[cfg(feature = "trace")]
pub struct Saved {
    /// Dimensions of the input, `[N, H, W, C]`.
    x_dims: [usize; 4],
    padding: Padding,
    /// Which pixel of its square each value came from, row by row from 0: `[N, h, w, C]` s32.
    chosen: XlaOp,
}

/// The side of the output for an input of side `side`: ⌈side / 2⌉.
pub fn output_side(side: usize) -> usize {
    side.div_ceil(STRIDE)
}

/// `y[n, i, j, c] = max over a, b in {0, 1, 2} of x[n, 2i + a − p, 2j + b − q, c]` with padding p and q, which never is
/// the maximum: `[N, H, W, C]` to `[N, ⌈H/2⌉, ⌈W/2⌉, C]`. Of equal values the first counts, row by row.
#[cfg(feature = "trace")]
pub fn forward(x: &XlaOp, padding: Padding) -> Result<(XlaOp, Saved)> {
    let x_dims = dims_of(x, "[N, H, W, C]")?;
    let [_, height, width, _] = x_dims;
    let border = |size: usize| {
        let (low, high) = padding.of(size, SIDE, STRIDE);
        (low, high, 0)
    };
    let config = [(0, 0, 0), border(height), border(width), (0, 0, 0)];
    let padded = x.pad(&scalar_like(x, f32::NEG_INFINITY)?, &config)?;
    let mut y = pixel(&padded, x_dims, 0)?;
    let number = |value: usize| -> Result<XlaOp> { Ok(x.builder().c0(value as i32)?) };
    let mut chosen = number(0)?.broadcast(&to_i64(&y.dims()?))?;
    for index in 1..SIDE * SIDE {
        let value = pixel(&padded, x_dims, index)?;
        let larger = value.gt(&y)?;
        chosen = larger.select(&(chosen.zeros_like()? + number(index)?)?, &chosen)?;
        y = y.max(&value)?;
    }
    let saved = Saved {
        x_dims,
        padding,
        chosen,
    };
    Ok((y, saved))
}

/// dx is the sum of dy over the squares in which [`forward`] chose the pixel: `[N, ⌈H/2⌉, ⌈W/2⌉, C]` to
/// `[N, H, W, C]`.
#[cfg(feature = "trace")]
pub fn backward(saved: &Saved, dy: &XlaOp) -> Result<XlaOp> {
    let [_, height, width, _] = saved.x_dims;
    let zero = scalar_like(dy, 0.0)?;
    let number = |value: usize| -> Result<XlaOp> {
        let value = dy.builder().c0(value as i32)?;
        Ok((saved.chosen.zeros_like()? + value)?)
    };
    let part = |index: usize| -> Result<XlaOp> {
        let here = saved.chosen.eq(&number(index)?)?;
        let part = here.select(dy, &dy.zeros_like()?)?;
        let between = |at: usize| (at as i64, (SIDE - 1 - at) as i64, STRIDE as i64 - 1);
        let config = [
            (0, 0, 0),
            between(index / SIDE),
            between(index % SIDE),
            (0, 0, 0),
        ];
        Ok(part.pad(&zero, &config)?)
    };
    let mut dx = part(0)?;
    for index in 1..SIDE * SIDE {
        dx = (dx + part(index)?)?;
    }
    let inside = |x: &XlaOp, size: usize, dim: i64| {
        let (low, _) = saved.padding.of(size, SIDE, STRIDE);
        x.slice_in_dim(low, low + size as i64, 1, dim)
    };
    Ok(inside(&inside(&dx, height, 1)?, width, 2)?)
}

/// The pixels at `index` of each square of the `padded` images, row by row from 0: `[N, ⌈H/2⌉, ⌈W/2⌉, C]`.
#[cfg(feature = "trace")]
fn pixel(padded: &XlaOp, [_, height, width, _]: [usize; 4], index: usize) -> Result<XlaOp> {
    let every_second = |x: &XlaOp, first: usize, size: usize, dim: i64| {
        let end = first + (output_side(size) - 1) * STRIDE + 1;
        x.slice_in_dim(first as i64, end as i64, STRIDE as i64, dim)
    };
    let rows = every_second(padded, index / SIDE, height, 1)?;
    Ok(every_second(&rows, index % SIDE, width, 2)?)
}
