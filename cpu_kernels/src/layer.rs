//! What a kernel is told about its layer, and what the backward kernels share.

use crate::norm::{Lanes, Norm, NormGradient};

/// A convolution of normalised, rectified images, "same" padding.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub images: usize,
    /// Of the input.
    pub height: usize,
    /// Of the input.
    pub width: usize,
    /// Input channels, a multiple of 16.
    pub inputs: usize,
    /// Output channels, a multiple of 16.
    pub outputs: usize,
    /// Of the square kernel: 1, or 3 with stride 1.
    pub side: usize,
    pub stride: usize,
}

impl Layer {
    /// Input channels in lanes.
    pub fn input_parts(&self) -> usize {
        self.inputs / 16
    }

    /// Output channels in lanes.
    pub fn output_parts(&self) -> usize {
        self.outputs / 16
    }

    pub fn output_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// Pixels of one input image.
    pub fn input_pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of one output image.
    pub fn output_pixels(&self) -> usize {
        self.height.div_ceil(self.stride) * self.output_width()
    }

    /// Lanes of one input image.
    pub fn input_len(&self) -> usize {
        self.input_pixels() * self.input_parts()
    }

    /// Lanes of one output image.
    pub fn output_len(&self) -> usize {
        self.output_pixels() * self.output_parts()
    }

    /// Values of the convolution's kernel.
    pub fn kernel_len(&self) -> usize {
        self.side * self.side * self.inputs * self.outputs
    }

    /// Images that one task works on. It does not depend on the number of threads, so that sums are
    /// always taken in the same order and runs repeat bit by bit.
    pub fn images_per_task(&self) -> usize {
        const TASKS: usize = 16;
        self.images.div_ceil(TASKS).max(1)
    }
}

/// The gradient of a layer's output.
pub enum OutputGradient<'a> {
    /// `[N, h, w, O]`.
    Plain(&'a [Lanes]),
    /// Still behind the batch normalisation that follows the layer: the gradient `dz` of its result
    /// and its input `x`, `[N, h, w, O]` each.
    BehindNorm {
        norm: NormGradient,
        dz: &'a [Lanes],
        x: &'a [Lanes],
    },
}

impl OutputGradient<'_> {
    /// The gradient of the channels `part` that lie at `index`.
    #[inline(always)]
    pub fn at(&self, index: usize, part: usize) -> Lanes {
        match self {
            Self::Plain(dy) => dy[index],
            Self::BehindNorm { norm, dz, x } => norm.apply(part, &dz[index], &x[index]),
        }
    }
}

/// What a backward kernel writes.
pub struct Gradients<'a> {
    /// Gradient of the normalisation's result before the ReLU, `[N, H, W, C]`.
    pub dz: &'a mut [Lanes],
    /// Σ dz, `[C]`.
    pub dbeta: &'a mut [f32],
    /// Σ dz · x̂, `[C]`.
    pub dgamma: &'a mut [f32],
    /// `[side, side, C, O]`.
    pub kernel: &'a mut [f32],
}

/// What one task of a backward kernel adds to the sums over the batch.
pub struct Part {
    pub sums: [Vec<f64>; 2],
    pub kernel: Vec<f32>,
}

impl Gradients<'_> {
    /// Adds up the `parts`, in order.
    pub fn total(&mut self, parts: &[Part], norm: &Norm) {
        for (c, rstd) in norm.rstd.as_flattened().iter().enumerate() {
            let sum = |which: usize| parts.iter().map(|p| p.sums[which][c]).sum::<f64>();
            self.dbeta[c] = sum(0) as f32;
            self.dgamma[c] = (sum(1) * f64::from(*rstd)) as f32;
        }
        self.kernel.fill(0.0);
        for part in parts {
            for (total, value) in self.kernel.iter_mut().zip(&part.kernel) {
                *total += value;
            }
        }
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
