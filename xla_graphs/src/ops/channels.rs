//! From images to one value per channel, and back.

use xla::XlaOp;

use crate::arrays::{scalar_like, to_i64};
use crate::error::Result;
use crate::ops::lowering::Lowering;

/// Spreads one value per channel, `[C]`, over the last axis of an array with dimensions `dims`.
pub fn per_channel(values: &XlaOp, dims: &[usize]) -> Result<XlaOp> {
    let last = dims.len() as i64 - 1;
    Ok(values.broadcast_in_dim(&to_i64(dims), &[last])?)
}

/// The sum over every axis but the last: `[.., C]` to `[C]`.
pub fn sum_to_channel(x: &XlaOp, lowering: Lowering) -> Result<XlaOp> {
    match lowering {
        Lowering::Native | Lowering::Tpu => {
            let axes: Vec<i64> = (0..x.rank()? as i64 - 1).collect();
            Ok(x.reduce_sum(&axes, false)?)
        }
        Lowering::Dots | Lowering::Kernels => sum_to_channel_by_dots(x),
    }
}

/// [`sum_to_channel`] as products of rows of ones with blocks of `x`, one block after the other, and
/// a last sum over the blocks. Blocks keep the partial sums short, and both cores busy.
fn sum_to_channel_by_dots(x: &XlaOp) -> Result<XlaOp> {
    const MOST_BLOCKS: usize = 64;
    let dims = x.dims()?;
    let (channels, rows) = match dims.split_last() {
        Some((&channels, outer)) => (channels, outer.iter().product::<usize>()),
        None => return Ok(x.clone()),
    };
    let blocks = MOST_BLOCKS.min(1 << rows.trailing_zeros());
    let in_blocks = x.reshape(&to_i64(&[blocks, rows / blocks, channels]))?;
    let one = scalar_like(x, 1.0)?;
    let ones = one.broadcast(&to_i64(&[blocks, rows / blocks]))?;
    let sums = ones.dot_general(&in_blocks, &[1], &[1], &[0], &[0])?;
    Ok(sums.reduce_sum(&[0], false)?)
}
