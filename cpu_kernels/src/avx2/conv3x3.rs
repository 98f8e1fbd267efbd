//! 3x3 convolutions of stride 1: one padded image at a time.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.

use super::gemm::{Depth, Left, PANEL, Right, assert_supported, multiply, pack};
use super::layer::{Gradients, Layer, OutputGradient, Part, transpose};
use super::norm::{Lanes, Moments, Norm, Sums};
use super::tasks;

/// y = conv(relu(norm(x))) `[N, H, W, O]`; the mean and the variance of each output channel go into
/// `moments` `[2, O]`.
pub fn forward(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    y: &mut [Lanes],
    moments: &mut [f32],
) {
    assert_supported();
    let kernel = pack(kernel, 9 * layer.inputs, layer.outputs);
    tasks::forward(layer, x, y, moments, |x, _, y| {
        // SAFETY: the processor has the instructions, as asserted above.
        unsafe { forward_task(layer, norm, x, &kernel, y) }
    });
}

#[target_feature(enable = "avx2,fma")]
fn forward_task(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    y: &mut [Lanes],
) -> Moments {
    let (inputs, parts) = (layer.input_parts(), layer.output_parts());
    let mut padded = Padded::new(layer, inputs);
    let mut sums = Sums::new(parts);
    let pixels = y.len() / parts;
    let mut pivot = vec![[0.0; PANEL]; parts];
    let images = x.chunks_exact(layer.input_len());
    for (image, (x, y)) in images
        .zip(y.chunks_exact_mut(layer.output_len()))
        .enumerate()
    {
        padded.fill(|index, part| norm.activate(part, &x[index]));
        padded.convolve(kernel, layer.outputs, y);
        if image == 0 {
            pivot.copy_from_slice(&y[..parts]);
        }
        sums.add_moments(y, &pivot);
    }
    Moments::new(sums, &pivot, pixels)
}

/// The gradients of [`forward`] at `x`.
pub fn backward(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    dy: &OutputGradient,
    out: &mut Gradients,
) {
    assert_supported();
    let turned = half_turn(kernel, layer.inputs, layer.outputs);
    let turned = pack(&turned, 9 * layer.outputs, layer.inputs);
    tasks::backward(layer, norm, x, out, |x, start, dz| {
        // SAFETY: the processor has the instructions, as asserted above.
        unsafe { backward_task(layer, norm, x, &turned, dy, start, dz) }
    });
}

/// `start`: where the task's first output pixel lies in `dy`.
#[target_feature(enable = "avx2,fma")]
fn backward_task(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    turned: &[f32],
    dy: &OutputGradient,
    start: usize,
    dz: &mut [Lanes],
) -> Part {
    let inputs = layer.input_parts();
    let mut sums = Sums::new(inputs);
    let mut kernel = vec![0.0; layer.kernel_len()];
    let mut a = Padded::new(layer, inputs);
    let mut d = Padded::new(layer, layer.output_parts());
    let images = x.chunks_exact(layer.input_len());
    for (image, (x, dz)) in images
        .zip(dz.chunks_exact_mut(layer.input_len()))
        .enumerate()
    {
        let start = start + image * layer.output_len();
        a.fill(|index, part| norm.activate(part, &x[index]));
        d.fill(|index, part| dy.at(start + index, part));
        a.kernel_gradient(&d, &mut kernel);
        d.convolve(turned, layer.inputs, dz);
        for (index, dz) in dz.iter_mut().enumerate() {
            let part = index % inputs;
            let a = a.at(index / inputs, part);
            *dz = sums.add_gradient(part, dz, a, &x[index], &norm.mean[part]);
        }
        sums.flush();
    }
    Part {
        sums: sums.finish(),
        kernel,
    }
}

/// The kernel `[3, 3, C, O]` turned by half a turn, its channels exchanged: `[3, 3, O, C]`.
fn half_turn(kernel: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let taps = kernel.chunks_exact(inputs * outputs).rev();
    taps.flat_map(|tap| transpose(tap, inputs, outputs))
        .collect()
}

/// An image with a border of zeros one pixel wide: `[H + 2, W + 2, C]`.
struct Padded {
    values: Vec<Lanes>,
    height: usize,
    width: usize,
    parts: usize,
}

impl Padded {
    /// For images of the size of `layer`'s with `parts` times 16 channels.
    fn new(layer: &Layer, parts: usize) -> Self {
        let (height, width) = (layer.height, layer.width);
        Self {
            values: vec![[0.0; PANEL]; (height + 2) * (width + 2) * parts],
            height,
            width,
            parts,
        }
    }

    /// Lanes of a row.
    fn row(&self) -> usize {
        (self.width + 2) * self.parts
    }

    /// Sets the lanes at each index of the image without border.
    #[inline(always)]
    fn fill(&mut self, value: impl Fn(usize, usize) -> Lanes) {
        let (row, parts, width) = (self.row(), self.parts, self.width);
        for i in 0..self.height {
            let inner = &mut self.values[(i + 1) * row + parts..][..width * parts];
            for (j, pixel) in inner.chunks_exact_mut(parts).enumerate() {
                for (part, lanes) in pixel.iter_mut().enumerate() {
                    *lanes = value((i * width + j) * parts + part, part);
                }
            }
        }
    }

    /// The lanes of a pixel of the image without border.
    #[inline(always)]
    fn at(&self, pixel: usize, part: usize) -> &Lanes {
        let (i, j) = (pixel / self.width, pixel % self.width);
        &self.values[(i + 1) * self.row() + (j + 1) * self.parts + part]
    }

    /// `y` `[H, W, outputs]` = the image convolved with `kernel` (packed).
    #[inline(always)]
    fn convolve(&self, kernel: &[f32], outputs: usize, y: &mut [Lanes]) {
        let channels = self.parts * PANEL;
        let runs = Depth {
            segments: 3,
            length: 3 * channels,
        };
        let depth = runs.segments * runs.length;
        let y = y.as_flattened_mut();
        for panel in 0..outputs / PANEL {
            let right = Right {
                data: &kernel[panel * depth * PANEL..][..depth * PANEL],
                step: PANEL,
                segment: runs.length * PANEL,
            };
            for i in 0..self.height {
                let left = Left {
                    data: self.values[i * self.row()..].as_flattened(),
                    row: channels,
                    step: 1,
                    segment: self.row() * PANEL,
                };
                let out = &mut y[i * self.width * outputs + panel * PANEL..];
                multiply(left, right, runs, self.width, out, outputs, false);
            }
        }
    }

    /// Adds `dkernel[a, b, c, o] = Σ self[i + a, j + b, c] · d[i + 1, j + 1, o]` over the pixels i, j.
    #[inline(always)]
    fn kernel_gradient(&self, d: &Self, kernel: &mut [f32]) {
        /// Pixels summed before a block of results goes back to memory: what a first level cache holds.
        const PIXELS: usize = 128;
        let (inputs, outputs) = (self.parts * PANEL, d.parts * PANEL);
        let rows = (PIXELS / self.width).max(1);
        for i in (0..self.height).step_by(rows) {
            let runs = Depth {
                segments: rows.min(self.height - i),
                length: self.width,
            };
            for a in 0..3 {
                let left = Left {
                    data: self.values[(i + a) * self.row()..].as_flattened(),
                    row: 1,
                    step: inputs,
                    segment: self.row() * PANEL,
                };
                for o in 0..d.parts {
                    let start = (i + 1) * d.row() + d.parts + o;
                    let right = Right {
                        data: d.values[start..].as_flattened(),
                        step: outputs,
                        segment: d.row() * PANEL,
                    };
                    let out = &mut kernel[a * 3 * inputs * outputs + o * PANEL..];
                    multiply(left, right, runs, 3 * inputs, out, outputs, true);
                }
            }
        }
    }
}
