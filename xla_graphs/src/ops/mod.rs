//! The layers. Each `forward` stands beside its `backward`, with the formula in its comment.
//!
//! Images are [N, H, W, C], kernels HWIO, dense kernels [in, out]: the same as Keras.

pub mod batch_norm;
pub mod conv;
pub mod dense;
pub mod loss;
pub mod pool;
pub mod relu;

use xla::{PrimitiveType, XlaOp};

use crate::Result;

/// Spreads one value per channel, [C], over the last axis of an array with dimensions `dims`.
pub(crate) fn per_channel(values: &XlaOp, dims: &[usize]) -> Result<XlaOp> {
    let last = dims.len() as i64 - 1;
    Ok(values.broadcast_in_dim(&to_i64(dims), &[last])?)
}

/// The sum over every axis but the last: [.., C] to [C].
pub(crate) fn sum_to_channel(x: &XlaOp) -> Result<XlaOp> {
    let axes: Vec<i64> = (0..x.rank()? as i64 - 1).collect();
    Ok(x.reduce_sum(&axes, false)?)
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
