//! The gradient of a 3x3 kernel without a stride: products over the pixels of some images.

use super::{SIDE, Tiles, turn};
use crate::x86::aligned::Aligned;
use crate::x86::format::{Format, Lanes};
use crate::x86::gemm::{Depth, Left, PANEL, Product, Right};
use crate::x86::layer::Layer;
use crate::x86::padded::Padded;
use crate::x86::prefetch::Ahead;
use crate::x86::sets::{Set, Task};
use crate::x86::walk::TAPS;

/// Pixels that are multiplied at a time, at least: with fewer, the sums of wide layers would be read and written more often.
const PIXELS: usize = 512;

/// Images as pairs of pixels, with their borders: of pixels that are zeros in one factor, the other's do not matter.
pub struct KernelGradient {
    /// The activations `[C, pairs]`, whose rows have room for one tile more: pairs that begin with an even pixel, and with an
    /// odd one.
    x: [Aligned<f32>; 2],
    /// From a row to the next.
    row: usize,
    /// The gradients of the results `[pairs, O]`, which begin with the first pixel behind the border.
    d: Aligned<Lanes>,
    /// An image's pairs `[pairs, C]`.
    pairs: Aligned<Lanes>,
}

impl KernelGradient {
    /// Images of `layer` that are multiplied at a time.
    pub fn images(layer: &Layer) -> usize {
        PIXELS.div_ceil(layer.output_pixels())
    }

    /// For as many images as `a` and `d` have.
    pub fn new<F: Format>(a: &[Padded<F>], d: &[Padded<F>]) -> Self {
        let pairs = a[0].pixels() / 2;
        let [inputs, outputs] = [a, d].map(|images| images[0].steps()[1]);
        let row = (a.len() * pairs).next_multiple_of(SIDE) + SIDE;
        Self {
            x: [0; 2].map(|_| Aligned::zeros(inputs * PANEL * row)),
            row,
            d: Aligned::zeros(d.len() * pairs * outputs),
            pairs: Aligned::zeros(pairs * inputs),
        }
    }

    /// Adds to `kernel` `[3, 3, C, O]` what images `a` and the gradients `d` of their results give.
    #[inline(always)]
    pub fn add<S: Set, F: Format>(
        &mut self,
        set: S,
        tiles: S::Tiles,
        [a, d]: [&[Padded<F>]; 2],
        kernel: &mut [f32],
        ahead: &mut Ahead,
    ) {
        set.run(Add {
            gradient: self,
            tiles,
            a,
            d,
            kernel,
            ahead,
        });
    }
}

/// [`KernelGradient::add`].
struct Add<'a, F: Format, T> {
    gradient: &'a mut KernelGradient,
    tiles: T,
    a: &'a [Padded<F>],
    d: &'a [Padded<F>],
    kernel: &'a mut [f32],
    ahead: &'a mut Ahead,
}

impl<F: Format, T: Tiles> Task for Add<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(mut self, set: S) {
        for odd in [0, 1] {
            for image in 0..self.a.len() {
                self.turn(set, image, odd);
            }
            self.end_rows(odd);
        }
        let outputs = self.d[0].steps()[1];
        let len = self.gradient.d.len() / self.d.len();
        for (d, pairs) in self.d.iter().zip(self.gradient.d.chunks_exact_mut(len)) {
            F::along_pixels(set, d.lanes_from(0, 1), outputs, 1, pairs);
        }
        self.multiply(set);
    }
}

impl<F: Format, T: Tiles> Add<'_, F, T> {
    /// Turns an image's activations, in pairs that begin with an even or an odd pixel.
    #[inline(always)]
    fn turn<S: Set>(&mut self, set: S, image: usize, odd: usize) {
        let KernelGradient { x, row, pairs, .. } = self.gradient;
        let parts = self.a[0].steps()[1];
        let count = pairs.len() / parts;
        let pixels = self.a[image].lanes_from(0, odd);
        let pairs = F::along_pixels(set, pixels, parts, 1, pairs);
        for part in 0..parts {
            let to = &mut x[odd][part * PANEL * *row + image * count..];
            // The next image's pairs overwrite what is of no use.
            turn(
                &mut self.tiles,
                &pairs[part * PANEL..],
                to,
                [parts * PANEL, *row],
                count,
            );
        }
    }

    /// Makes zeros of what the last taps read behind the last image.
    #[inline(always)]
    fn end_rows(&mut self, odd: usize) {
        let KernelGradient { x, row, pairs, .. } = self.gradient;
        let count = pairs.len() / self.a[0].steps()[1];
        for row in x[odd].chunks_exact_mut(*row) {
            row[self.a.len() * count] = 0.0;
        }
    }

    /// Adds the products of each tap.
    #[inline(always)]
    fn multiply<S: Set>(&mut self, set: S) {
        let KernelGradient { x, row, d, pairs } = &*self.gradient;
        let [line, inputs] = self.a[0].steps();
        let line = line / inputs;
        let outputs = self.d[0].steps()[1];
        let count = pairs.len() / inputs;
        let [height, _] = self.d[0].size();
        let taps = self
            .kernel
            .chunks_exact_mut(inputs * outputs * PANEL * PANEL);
        for (tap, kernel) in taps.enumerate() {
            let (a, b) = (tap / TAPS, tap % TAPS);
            let product = Product {
                left: Left {
                    data: &x[b % 2][(a * line + b) / 2..],
                    row: *row,
                    step: 1,
                    segment: count,
                },
                right: Right {
                    data: &d.as_flattened()[line / 2 * outputs * PANEL..],
                    step: outputs * PANEL,
                    segment: count * outputs * PANEL,
                    panel: PANEL,
                },
                depth: Depth {
                    segments: self.a.len(),
                    length: height * line / 2,
                },
                rows: inputs * PANEL,
                panels: outputs,
            };
            let ahead = Some(&mut *self.ahead);
            product.compute_beside::<S, F>(set, kernel, outputs * PANEL, true, ahead);
        }
    }
}
