//! Images with a border, and the products of a 3x3 convolution with them.

use super::format::{Format, Lanes, registers};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::layer::Layer;
use super::sets::Set;

/// An image with a border of zeros one pixel wide, at the right two where its width is odd: `[H + 2, stride, C]`.
pub struct Padded<F: Format> {
    values: Vec<F::Lanes>,
    height: usize,
    width: usize,
    parts: usize,
    /// The same as elements along the pixels, from the first pixel and from the second, where the format's elements are
    /// pairs: `[(H + 2) · stride / 2, C]` each.
    pairs: [Vec<Lanes>; 2],
}

impl<F: Format> Padded<F> {
    /// For images of the size of `layer`'s with `parts` times 16 channels.
    pub fn new(layer: &Layer, parts: usize) -> Self {
        let (height, width) = (layer.height, layer.width);
        let mut padded = Self {
            values: Vec::new(),
            height,
            width,
            parts,
            pairs: [Vec::new(), Vec::new()],
        };
        let len = (height + 2) * padded.row();
        padded.values = vec![F::ZERO; len];
        if F::VALUES > 1 {
            padded.pairs = [0, 1].map(|_| vec![[0.0; PANEL]; len / F::VALUES]);
        }
        padded
    }

    /// Lanes of a row.
    fn row(&self) -> usize {
        (self.width + 2).next_multiple_of(2) * self.parts
    }

    /// Sets each register of the image without border: of index, channels and number.
    #[inline(always)]
    pub fn fill<S: Set>(&mut self, set: S, value: impl Fn(usize, usize, usize) -> S::Register) {
        let (row, parts, width) = (self.row(), self.parts, self.width);
        for i in 0..self.height {
            let inner = &mut self.values[(i + 1) * row + parts..][..width * parts];
            for (j, pixel) in inner.chunks_exact_mut(parts).enumerate() {
                for (part, lanes) in pixel.iter_mut().enumerate() {
                    for n in 0..registers::<S>() {
                        F::put(
                            set,
                            lanes,
                            n,
                            value((i * width + j) * parts + part, part, n),
                        );
                    }
                }
            }
        }
    }

    /// The lanes of a pixel of the image without border.
    #[inline(always)]
    pub fn at(&self, pixel: usize) -> &[F::Lanes] {
        let (i, j) = (pixel / self.width, pixel % self.width);
        &self.values[(i + 1) * self.row() + (j + 1) * self.parts..][..self.parts]
    }

    /// `y` `[H, W, O]` = the image convolved with `kernel` (packed).
    #[inline(always)]
    pub fn convolve<S: Set>(&self, set: S, kernel: &[f32], y: &mut [Lanes]) {
        let panels = y.len() / (self.height * self.width);
        let channels = self.parts * F::ELEMENTS;
        let runs = Depth {
            segments: 3,
            length: 3 * channels,
        };
        let depth = runs.segments * runs.length;
        let y = y.as_flattened_mut();
        for first in (0..panels).step_by(S::PANELS) {
            let right = Right {
                data: &kernel[first * depth * PANEL..],
                step: PANEL,
                segment: runs.length * PANEL,
                panel: depth * PANEL,
            };
            for i in 0..self.height {
                let left = Left {
                    data: F::elements(&self.values[i * self.row()..]),
                    row: channels,
                    step: 1,
                    segment: self.row() * F::ELEMENTS,
                };
                let product = Product {
                    left,
                    right,
                    depth: runs,
                    rows: self.width,
                    panels: S::PANELS.min(panels - first),
                };
                let out = &mut y[(i * self.width * panels + first) * PANEL..];
                product.compute::<S, F>(set, out, panels * PANEL, false);
            }
        }
    }
}

/// Adds `dkernel[a, b, c, o] = Σ x[i + a, j + b, c] · d[i + 1, j + 1, o]` over the pixels i, j.
///
/// With pairs of pixels, those that the middle tap b = 1 multiplies begin at odd pixels of `x`.
#[inline(always)]
pub fn kernel_gradient<S: Set, F: Format>(
    set: S,
    x: &mut Padded<F>,
    d: &mut Padded<F>,
    kernel: &mut [f32],
) {
    let (inputs, outputs) = (x.parts * PANEL, d.parts * PANEL);
    let (height, width) = (x.height, x.width);
    let [x_row, d_row] = [&*x, &*d].map(|padded| padded.row() / F::VALUES);
    let [even, odd] = &mut x.pairs;
    let left = [
        F::along_pixels(set, &x.values, x.parts, even),
        F::along_pixels(set, &x.values[x.parts..], x.parts, odd),
    ];
    let right = F::along_pixels(set, &d.values[d.parts..], d.parts, &mut d.pairs[1]);
    let rows = rows_at_a_time(width);
    for i in (0..height).step_by(rows) {
        for (tap, kernel) in kernel.chunks_exact_mut(inputs * outputs).enumerate() {
            let (a, b) = (tap / 3, tap % 3);
            let first = (i + a) * x_row + b / F::VALUES * x.parts;
            let product = Product {
                left: Left {
                    data: &left[b % F::VALUES][first * PANEL..],
                    row: 1,
                    step: inputs,
                    segment: x_row * PANEL,
                },
                right: Right {
                    data: &right[(i + 1) * d_row * PANEL..],
                    step: outputs,
                    segment: d_row * PANEL,
                    panel: PANEL,
                },
                depth: Depth {
                    segments: rows.min(height - i),
                    length: width.div_ceil(F::VALUES),
                },
                rows: inputs,
                panels: d.parts,
            };
            product.compute::<S, F>(set, kernel, outputs, true);
        }
    }
}

/// Rows of pixels summed before a block of results goes back to memory: what a first level cache holds.
fn rows_at_a_time(width: usize) -> usize {
    const PIXELS: usize = 128;
    (PIXELS / width).max(1)
}
