//! A layer's sizes, and what the backward kernels share.

pub use kernel_contract::Layer;

use rayon::prelude::*;

use super::format::{F32, Format};
use super::norm::{Norm, NormGradient};
use super::sets::Set;

/// Weights whose gradients one thread adds up.
const BLOCK: usize = 4096;

/// The gradient of a layer's result.
pub enum OutputGradient<'a, F: Format = F32> {
    /// `[N, h, w, O]`.
    Plain(&'a [F::Lanes]),
    /// Of a result behind pooling, with [`Output::chosen`], `[N, h, w, O]` each.
    Pooled {
        dy: &'a [F::Lanes],
        chosen: &'a [F::Lanes],
    },
    /// Not yet taken through the batch normalisation that follows the layer: the gradient `dz` of its result
    /// and its input `x`, `[N, h, w, O]` each.
    BehindNorm {
        norm: NormGradient,
        dz: &'a [F::Lanes],
        x: &'a [F::Lanes],
    },
    /// The same where another branch's gradient is added, which [`Gradients::dy`] has at first: to `dz` where they are
    /// `joined`, otherwise behind the normalisation. For 1x1 convolutions.
    Junction {
        norm: NormGradient,
        dz: &'a [F::Lanes],
        x: &'a [F::Lanes],
        joined: bool,
    },
}

impl<'a, F: Format> OutputGradient<'a, F> {
    /// What it is computed from, but for what is added at a junction.
    pub fn behind(&self) -> [&'a [F::Lanes]; 2] {
        match self {
            Self::Junction { dz, x, .. } | Self::BehindNorm { dz, x, .. } => [*dz, *x],
            Self::Plain(dy) | Self::Pooled { dy, .. } => [*dy, &[]],
        }
    }

    /// Register `n` of the gradient of the channels `part` that lie at `index`.
    ///
    /// # Panics
    /// At a [`Self::Junction`], which needs what is added.
    #[inline(always)]
    pub fn at<S: Set>(&self, set: S, index: usize, part: usize, n: usize) -> S::Register {
        match self {
            Self::Plain(dy) | Self::Pooled { dy, .. } => F::get(set, &dy[index], n),
            Self::BehindNorm { norm, dz, x } => {
                let (dz, x) = (F::get(set, &dz[index], n), F::get(set, &x[index], n));
                norm.of_register(set, part, n).apply(set, dz, x)
            }
            Self::Junction { .. } => unreachable!("only a 1x1 convolution takes a junction"),
        }
    }
}

/// What a forward kernel writes.
pub struct Output<'a, F: Format = F32> {
    /// `[N, h, w, O]`.
    pub y: &'a mut [F::Lanes],
    /// The mean and the variance of the channels of `y`, `[2, O]`.
    pub moments: &'a mut [f32],
    /// Which pixel of its square each value of `y` was, as `y`; empty without pooling.
    pub chosen: &'a mut [F::Lanes],
}

/// What a backward kernel writes.
pub struct Gradients<'a, F: Format = F32> {
    /// Gradient of the layer's result, `[N, h, w, O]`, at an [`OutputGradient::Junction`]: at first what is added to it.
    /// Otherwise empty.
    pub dy: &'a mut [F::Lanes],
    /// Gradient of the normalisation's result before the ReLU, `[N, H, W, C]`.
    pub dz: &'a mut [F::Lanes],
    /// Σ dz, `[C]`.
    pub dbeta: &'a mut [f32],
    /// Σ dz · x̂, `[C]`.
    pub dgamma: &'a mut [f32],
    /// `[side, side, C, O]`.
    pub kernel: &'a mut [f32],
}

/// One task of a backward kernel: some of the images.
pub struct BackwardShare<'a, F: Format> {
    pub layer: &'a Layer,
    pub norm: &'a Norm,
    pub x: &'a [F::Lanes],
    /// The kernel as it leads from the output to the input, packed.
    pub turned: &'a [f32],
    pub dy: &'a OutputGradient<'a, F>,
    /// Where the first pixel of the result lies in `dy`.
    pub start: usize,
    /// From there on, [`Gradients::dy`].
    pub sum: &'a mut [F::Lanes],
    pub dz: &'a mut [F::Lanes],
}

/// What one task of a backward kernel adds to the sums over the batch.
pub struct Part {
    pub sums: [Vec<f64>; 2],
    pub kernel: Vec<f32>,
}

impl<F: Format> Gradients<'_, F> {
    /// Adds up the `parts`, in order.
    pub fn total(&mut self, parts: &[Part], norm: &Norm) {
        for (c, rstd) in norm.rstd.as_flattened().iter().enumerate() {
            let sum = |which: usize| parts.iter().map(|p| p.sums[which][c]).sum::<f64>();
            self.dbeta[c] = sum(0) as f32;
            self.dgamma[c] = (sum(1) * f64::from(*rstd)) as f32;
        }
        let blocks = self.kernel.par_chunks_mut(BLOCK).enumerate();
        blocks.for_each(|(block, totals)| {
            totals.fill(0.0);
            for part in parts {
                let values = &part.kernel[block * BLOCK..];
                for (total, value) in totals.iter_mut().zip(values) {
                    *total += value;
                }
            }
        });
    }
}

/// `matrix` `[rows, columns]` turned into `[columns, rows]`.
pub fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = vec![0.0; rows * columns];
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * rows + row] = *value;
        }
    }
    turned
}
