//! The layers. Each `forward` stands beside its `backward`, with the formula in its comment.
//!
//! Images are `[N, H, W, C]`, kernels HWIO, dense kernels `[in, out]`: the same as Keras.

pub mod batch_norm;
pub mod conv;
pub mod dense;
pub mod kernels;
pub mod loss;
pub mod pool;
pub mod relu;

use std::fmt;

use xla::{PrimitiveType, XlaOp};

use crate::{GraphError, Result};

/// Spreads one value per channel, `[C]`, over the last axis of an array with dimensions `dims`.
pub(crate) fn per_channel(values: &XlaOp, dims: &[usize]) -> Result<XlaOp> {
    let last = dims.len() as i64 - 1;
    Ok(values.broadcast_in_dim(&to_i64(dims), &[last])?)
}

/// How layers are written for the compiler: the one choice that depends on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// Convolutions and sums as XLA's own operations: what a TPU's and a GPU's compiler expects.
    Native,
    /// 1x1 convolutions and sums per channel as matrix products. XLA's CPU backend runs a 1x1
    /// gradient 2 times and a fused sum of products 3 times faster this way.
    Dots,
    /// [`Lowering::Dots`], and the layers of the units as calls of kernels made for XLA's CPU backend
    /// ([`kernels`]): f32, a processor with AVX2, and the kernels registered in this process.
    Kernels,
}

impl fmt::Display for Lowering {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Dots => "dots",
            Self::Kernels => "kernels",
        })
    }
}

/// The sum over every axis but the last: `[.., C]` to `[C]`.
pub(crate) fn sum_to_channel(x: &XlaOp, lowering: Lowering) -> Result<XlaOp> {
    match lowering {
        Lowering::Native => {
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

/// `x` as `ty`; no operation when it is already.
pub(crate) fn cast(x: &XlaOp, ty: PrimitiveType) -> Result<XlaOp> {
    if x.primitive_type()? == ty {
        return Ok(x.clone());
    }
    Ok(x.convert(ty)?)
}

/// A scalar constant of the same element type as `like`.
pub(crate) fn scalar_like(like: &XlaOp, value: f32) -> Result<XlaOp> {
    cast(&like.builder().c0(value)?, like.primitive_type()?)
}

pub(crate) fn to_i64(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&d| d as i64).collect()
}

/// The dimensions of `x`, which must be as many as `expected` names.
pub(crate) fn dims_of<const RANK: usize>(
    x: &XlaOp,
    expected: &'static str,
) -> Result<[usize; RANK]> {
    let dims = x.dims()?;
    dims.try_into()
        .map_err(|got: Vec<usize>| GraphError::Rank { expected, got })
}
