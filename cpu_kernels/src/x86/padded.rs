//! Images with a border, and the products of a 3x3 convolution with them.

use super::format::{Format, Lanes, registers};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::layer::Layer;
use super::sets::Set;

/// The pixels of an image that lie under the middle of a kernel.
#[derive(Clone, Copy)]
pub struct Centres {
    first_row: usize,
    first_column: usize,
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Centres {
    /// Those of the input of `layer`, one for each pixel of its output.
    pub fn of_outputs(layer: &Layer) -> Self {
        Self {
            first_row: layer.first_row(),
            first_column: layer.first_column(),
            stride: layer.stride,
            rows: layer.output_height(),
            columns: layer.output_width(),
        }
    }

    /// All pixels of the input of `layer`.
    pub fn all(layer: &Layer) -> Self {
        Self {
            first_row: 0,
            first_column: 0,
            stride: 1,
            rows: layer.height,
            columns: layer.width,
        }
    }

    /// The row of the centres in row `i`.
    fn row(&self, i: usize) -> usize {
        self.first_row + i * self.stride
    }
}

/// An image with a border of zeros one pixel wide, at the right two where its width is odd: `[H + 2, stride, C]`.
pub struct Padded<F: Format> {
    values: Vec<F::Lanes>,
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

    /// Sets each register of the pixels at `centres`: of index, channels and number. All other pixels stay zeros.
    #[inline(always)]
    pub fn fill<S: Set>(
        &mut self,
        set: S,
        centres: Centres,
        value: impl Fn(usize, usize, usize) -> S::Register,
    ) {
        let (row, parts, columns) = (self.row(), self.parts, centres.columns);
        let step = centres.stride * parts;
        for i in 0..centres.rows {
            let first = (centres.row(i) + 1) * row + (centres.first_column + 1) * parts;
            let pixels = self.values[first..].chunks_mut(step).take(columns);
            for (j, pixel) in pixels.enumerate() {
                for (part, lanes) in pixel[..parts].iter_mut().enumerate() {
                    for n in 0..registers::<S>() {
                        let index = (i * columns + j) * parts + part;
                        F::put(set, lanes, n, value(index, part, n));
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

    /// `y` `[rows, columns, O]` = the image convolved with `kernel` (packed) at `centres`.
    #[inline(always)]
    pub fn convolve<S: Set>(&self, set: S, centres: Centres, kernel: &[f32], y: &mut [Lanes]) {
        let columns = centres.columns;
        let panels = y.len() / (centres.rows * columns);
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
            for i in 0..centres.rows {
                let start = centres.row(i) * self.row() + centres.first_column * self.parts;
                let left = Left {
                    data: F::elements(&self.values[start..]),
                    row: centres.stride * channels,
                    step: 1,
                    segment: self.row() * F::ELEMENTS,
                };
                let product = Product {
                    left,
                    right,
                    depth: runs,
                    rows: columns,
                    panels: S::PANELS.min(panels - first),
                };
                let out = &mut y[(i * columns * panels + first) * PANEL..];
                product.compute::<S, F>(set, out, panels * PANEL, false);
            }
        }
    }
}

/// Adds `dkernel[a, b, c, o] = Σ x[i + a, j + b, c] · d[i + 1, j + 1, o]` over the pixels i, j. `d` is 0 at all but the
/// `centres`.
///
/// With pairs of pixels, those that the middle tap b = 1 multiplies begin at odd pixels of `x`.
#[inline(always)]
pub fn kernel_gradient<S: Set, F: Format>(
    set: S,
    x: &mut Padded<F>,
    d: &mut Padded<F>,
    centres: Centres,
    kernel: &mut [f32],
) {
    let (inputs, outputs) = (x.parts * PANEL, d.parts * PANEL);
    let (height, width) = (centres.rows, x.width);
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
            let first = (centres.row(i) + a) * x_row + b / F::VALUES * x.parts;
            let product = Product {
                left: Left {
                    data: &left[b % F::VALUES][first * PANEL..],
                    row: 1,
                    step: inputs,
                    segment: centres.stride * x_row * PANEL,
                },
                right: Right {
                    data: &right[(centres.row(i) + 1) * d_row * PANEL..],
                    step: outputs,
                    segment: centres.stride * d_row * PANEL,
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
