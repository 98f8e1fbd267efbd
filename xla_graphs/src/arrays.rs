//! Dimensions, constants and element types of XLA's arrays.

use xla::{PrimitiveType, XlaOp};

use crate::error::{GraphError, Result};

/// `x` as `ty`; no operation when it is already.
pub fn cast(x: &XlaOp, ty: PrimitiveType) -> Result<XlaOp> {
    if x.primitive_type()? == ty {
        return Ok(x.clone());
    }
    Ok(x.convert(ty)?)
}

/// A scalar constant of the same element type as `like`.
pub fn scalar_like(like: &XlaOp, value: f32) -> Result<XlaOp> {
    cast(&like.builder().c0(value)?, like.primitive_type()?)
}

/// kept · old + (1 − kept) · new: the next value of a moving average, any shape.
pub fn blend(old: &XlaOp, new: &XlaOp, kept: f64) -> Result<XlaOp> {
    let old = (old * scalar_like(old, kept as f32)?)?;
    // 1 - 0.99 in f32 would be 1e-6 too small.
    let share = scalar_like(new, (1.0 - kept) as f32)?;
    Ok((old + new * share)?)
}

pub fn to_i64(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&d| d as i64).collect()
}

/// The dimensions of `x`, which must be as many as `expected` names.
pub fn dims_of<const RANK: usize>(x: &XlaOp, expected: &'static str) -> Result<[usize; RANK]> {
    let dims = x.dims()?;
    dims.try_into()
        .map_err(|got: Vec<usize>| GraphError::Rank { expected, got })
}

/// The number of values of `x`.
pub fn len_of(x: &XlaOp) -> Result<usize> {
    Ok(x.dims()?.iter().product())
}
