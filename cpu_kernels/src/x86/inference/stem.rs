//! The first convolution of a network, of images with few channels: in f32, whatever the format of its result.

use kernel_contract::plan;

use crate::x86::aligned::Aligned;
use crate::x86::format::{F32, Format, Lanes, get, registers};
use crate::x86::gemm::{Depth, Left, PANEL, Product, Right};
use crate::x86::sets::{Set, Task};

/// The convolution with its kernel.
pub struct Stem {
    sizes: plan::Stem,
    /// Packed.
    kernel: Aligned<f32>,
    /// Output channels in lanes.
    parts: usize,
}

impl Stem {
    /// Of these `sizes`, with `kernel` `[side, side, channels, outputs]`.
    pub fn new(sizes: plan::Stem, kernel: &[f32], outputs: usize) -> Self {
        Self {
            kernel: F32::pack(kernel, sizes.depth(), outputs),
            sizes,
            parts: outputs / PANEL,
        }
    }

    /// Image number `number` of `images`.
    pub fn image<'a>(&self, images: &'a [f32], number: usize) -> &'a [f32] {
        let len = self.sizes.image_len();
        &images[number * len..][..len]
    }

    /// Lanes of the result.
    pub fn result_len(&self) -> usize {
        let [height, width] = self.sizes.result();
        height * width * self.parts
    }

    /// What a thread computes an image in.
    pub fn scratch(&self) -> Scratch {
        let [height, width] = self.sizes.covered();
        Scratch {
            padded: vec![0.0; height * width * self.sizes.image[2]],
            row: vec![[0.0; PANEL]; self.sizes.result()[1] * self.parts],
        }
    }
}

/// What [`Convolution`] needs.
#[derive(Default)]
pub struct Scratch {
    /// The image with a border of zeros, where the taps meet it.
    padded: Vec<f32>,
    /// A row of the convolution's output.
    row: Vec<Lanes>,
}

/// The convolution of an image.
pub struct Convolution<'a, F: Format> {
    pub stem: &'a Stem,
    pub scratch: &'a mut Scratch,
    pub x: &'a [f32],
    pub y: &'a mut [F::Lanes],
}

impl<F: Format> Convolution<'_, F> {
    /// Copies the image into the border.
    #[inline(always)]
    fn fill(&mut self) {
        let sizes = &self.stem.sizes;
        let [_, width, channels] = sizes.image;
        let ([above, before], [_, covered]) = (sizes.border(), sizes.covered());
        let len = width.min(covered - before) * channels;
        let rows = self.scratch.padded.chunks_exact_mut(covered * channels);
        let pairs = rows.skip(above).zip(self.x.chunks_exact(width * channels));
        for (padded, x) in pairs {
            padded[before * channels..][..len].copy_from_slice(&x[..len]);
        }
    }
}

impl<F: Format> Task for Convolution<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(mut self, set: S) {
        self.fill();
        let Stem {
            sizes,
            kernel,
            parts,
        } = self.stem;
        let (channels, [_, covered], [_, width]) =
            (sizes.image[2], sizes.covered(), sizes.result());
        let length = sizes.side * channels;
        for (i, y) in self.y.chunks_exact_mut(width * parts).enumerate() {
            let product = Product {
                left: Left {
                    data: &self.scratch.padded[i * sizes.stride * covered * channels..],
                    row: sizes.stride * channels,
                    step: 1,
                    segment: covered * channels,
                },
                right: Right {
                    data: kernel,
                    step: PANEL,
                    segment: length * PANEL,
                    panel: sizes.depth() * PANEL,
                },
                depth: Depth {
                    segments: sizes.side,
                    length,
                },
                rows: width,
                panels: *parts,
            };
            if let Some(y) = F::sums(y) {
                product.compute::<S, F32>(set, y.as_flattened_mut(), parts * PANEL, false);
                continue;
            }
            let row = &mut self.scratch.row;
            product.compute::<S, F32>(set, row.as_flattened_mut(), parts * PANEL, false);
            for (value, y) in row.iter().zip(y) {
                for n in 0..registers::<S>() {
                    F::put(set, y, n, get(set, value, n));
                }
            }
        }
    }
}
