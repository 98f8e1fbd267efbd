//! Muon (Jordan 2024, "Muon: An optimizer for hidden layers in neural networks"): momentum whose
//! directions are made orthogonal.

use xla::XlaOp;

use crate::arrays::{scalar_like, to_i64};
use crate::error::{GraphError, Result};
use crate::optimiser::rule::{Optimiser, Update, Updated};
use crate::optimiser::slots;
use crate::table::{FIRST_KERNEL, TensorSpec};

/// The odd polynomial a·s + b·s³ + c·s⁵ that takes each singular value s in (0, 1] close to 1 when it is
/// applied a few times.
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// How often it is applied.
const ROUNDS: usize = 3;
/// Keeps the norm of a gradient of zeros from being divided by.
const TINY: f32 = 1e-7;

/// Muon with `momentum` for the kernels of all convolutions but the first, Nesterov momentum with
/// `rest` times the learning rate for all other weights. With v the velocity, g the gradient, and one matrix `[side·side·in, out]` for each kernel:
///
/// v' = momentum · v + g; d = g + momentum · v';
/// a hidden kernel: w' = w · sqrt(out) / ‖w‖ − learning_rate · orthogonal(d);
/// the rest: w' = w − learning_rate · rest · d.
///
/// With its norm held at sqrt(out), a kernel turns by the same angle at the same learning rate throughout.
/// Where a batch norm follows alone, the norm has no effect; where a shortcut is added first, it fixes the
/// size of the branch.
pub fn muon(momentum: f32, rest: f32) -> Optimiser {
    Optimiser::new("muon", slots::MUON, move |update| {
        step(update, momentum, rest)
    })
}

fn step(update: &Update, momentum: f32, rest: f32) -> Result<Updated> {
    let kept = |v: &XlaOp| -> Result<XlaOp> { Ok((v * scalar_like(v, momentum)?)?) };
    let velocity = (kept(&update.slots[0])? + update.gradient)?;
    let direction = (update.gradient + kept(&velocity)?)?;
    let mut parts = Vec::new();
    let mut start = 0;
    for tensor in update.tensors {
        let end = start + tensor.len();
        let part = |of: &XlaOp| of.slice_in_dim(start as i64, end as i64, 1, 0);
        let (w, d) = (part(update.weights)?, part(&direction)?);
        parts.push(moved(tensor, &w, &d, update.learning_rate, rest)?);
        start = end;
    }
    let (first, others) = parts.split_first().ok_or(GraphError::NoTensors)?;
    Ok(Updated {
        weights: first.concat_in_dim(others, 0)?,
        slots: vec![velocity],
    })
}

/// The weights `w` of `tensor`, moved against `d`; both flat.
fn moved(
    tensor: &TensorSpec,
    w: &XlaOp,
    d: &XlaOp,
    learning_rate: &XlaOp,
    rest: f32,
) -> Result<XlaOp> {
    if let [h, width, inputs, outputs] = tensor.dims[..]
        && tensor.name != FIRST_KERNEL
    {
        let matrix = to_i64(&[h * width * inputs, outputs]);
        let orthogonal = orthogonal(&d.reshape(&matrix)?)?.reshape(&[tensor.len() as i64])?;
        let scale = (scalar_like(w, (outputs as f32).sqrt())? / norm(w)?)?;
        return Ok(((w * scale)? - (orthogonal * learning_rate)?)?);
    }
    let rate = (learning_rate * scalar_like(w, rest)?)?;
    Ok((w - (d * rate)?)?)
}

/// The matrix with the singular vectors of `matrix` and all singular values near 1, by Newton-Schulz
/// rounds X ← a·X + X·(b·A + c·A²) with A = XᵀX, or the same of the transposed where that is smaller.
fn orthogonal(matrix: &XlaOp) -> Result<XlaOp> {
    let dims = matrix.dims()?;
    let is_wide = dims[0] < dims[1];
    // The axes that XᵀX sums over, and that stay.
    let (summed, kept) = if is_wide { (1, 0) } else { (0, 1) };
    let mut x = (matrix / norm(matrix)?)?;
    let [a, b, c] = POLYNOMIAL;
    for _ in 0..ROUNDS {
        let square = x.dot_general(&x, &[summed], &[summed], &[], &[])?;
        let fourth = square.dot_general(&square, &[1], &[0], &[], &[])?;
        let factor = ((&square * scalar_like(&x, b)?)? + (fourth * scalar_like(&x, c)?)?)?;
        let product = match is_wide {
            true => factor.dot_general(&x, &[1], &[kept], &[], &[])?,
            false => x.dot_general(&factor, &[kept], &[0], &[], &[])?,
        };
        x = ((&x * scalar_like(&x, a)?)? + product)?;
    }
    Ok(x)
}

/// The root of the sum of all squares, and a tiny number: a scalar.
fn norm(x: &XlaOp) -> Result<XlaOp> {
    let squares = (x * x)?;
    let axes: Vec<i64> = (0..x.rank()? as i64).collect();
    let norm = squares.reduce_sum(&axes, false)?.sqrt()?;
    Ok((&norm + scalar_like(&norm, TINY)?)?)
}
