//! One layer of an image.

use std::slice;

use kernel_contract::plan::Added;

use super::Step;
use crate::isa::Isa;
use crate::x86::format::{Format, Lanes, registers};
use crate::x86::gemm::PANEL;
use crate::x86::layer::Layer;
use crate::x86::norm::Norm;
use crate::x86::padded::{Padded, convolve};
use crate::x86::pointwise::tile::{self, TILE};
use crate::x86::pool;
use crate::x86::prefetch::Ahead;
use crate::x86::result::store_one;
use crate::x86::sets::{Set, Task};
use crate::x86::walk::Walk;
use crate::x86::winograd::{self, Convolution};

/// A step of an image.
pub struct Share<'a, F: Format> {
    pub step: &'a Step<'a>,
    /// [Packed](winograd::packed).
    pub kernel: &'a [f32],
    pub x: &'a [F::Lanes],
    pub sum: Sum<'a, F>,
    pub y: &'a mut [F::Lanes],
}

/// What a step's product is added to.
pub enum Sum<'a, F: Format> {
    Nothing,
    /// What lies in the place of the result.
    InPlace,
    Skip(Skip<'a, F>),
}

/// A value that is added to a step's result.
pub struct Skip<'a, F: Format> {
    values: &'a [F::Lanes],
    parts: usize,
    /// Pixels of a row.
    width: usize,
    stride: usize,
}

impl<'a, F: Format> Skip<'a, F> {
    /// `added`, of which these are the `values`.
    pub fn new(steps: &[Step], added: Added, values: &'a [F::Lanes]) -> Self {
        let (width, channels) = match added.value {
            0 => (steps[0].layer.width, steps[0].layer.inputs),
            value => {
                let layer = &steps[value - 1].layer;
                (layer.result_width(), layer.outputs)
            }
        };
        Self {
            values,
            parts: channels / PANEL,
            width,
            stride: added.stride,
        }
    }

    /// What is added to `pixel` of a result: lanes for its first channels.
    #[inline(always)]
    fn at(&self, pixel: usize) -> &[F::Lanes] {
        let pixel = match self.stride {
            1 => pixel,
            stride => {
                let width = self.width.div_ceil(stride);
                (pixel / width * self.width + pixel % width) * stride
            }
        };
        &self.values[pixel * self.parts..][..self.parts]
    }
}

impl<F: Format> Share<'_, F> {
    /// Where the product for `count` pixels from `first` on is stored, and whether it is added to what lies there: `None`
    /// where more has to be done for the result.
    #[inline(always)]
    fn place(&mut self, first: usize, count: usize) -> Option<(&mut [Lanes], bool)> {
        let layer = &self.step.layer;
        let parts = layer.output_parts();
        let add = match self.sum {
            Sum::Nothing => false,
            Sum::InPlace => true,
            Sum::Skip(_) => return None,
        };
        if layer.pools {
            return None;
        }
        let y = F::sums(&mut self.y[first * parts..][..count * parts])?;
        Some((y, add))
    }

    /// Stores `product` `[pixels, O]`, with what is added to it, as the result from pixel `first` on.
    #[inline(always)]
    fn store<S: Set>(&mut self, set: S, first: usize, product: &[Lanes]) {
        let parts = self.step.layer.output_parts();
        let y = &mut self.y[first * parts..][..product.len()];
        match &self.sum {
            Sum::Nothing => {
                for (product, y) in product.iter().zip(y) {
                    store_lanes::<S, F>(set, product, None, y);
                }
            }
            Sum::InPlace => {
                for (product, y) in product.iter().zip(y) {
                    let skip = *y;
                    store_lanes::<S, F>(set, product, Some(&skip), y);
                }
            }
            Sum::Skip(skip) => {
                // For channels that the skip does not have.
                let zeros = F::ZERO;
                let pixels = product.chunks_exact(parts).zip(y.chunks_exact_mut(parts));
                for (pixel, (product, y)) in pixels.enumerate() {
                    let skip = skip.at(first + pixel);
                    for (part, (product, y)) in product.iter().zip(y).enumerate() {
                        let skip = skip.get(part).unwrap_or(&zeros);
                        store_lanes::<S, F>(set, product, Some(skip), y);
                    }
                }
            }
        }
    }
}

/// `y` = `product` + `skip`.
#[inline(always)]
fn store_lanes<S: Set, F: Format>(
    set: S,
    product: &Lanes,
    skip: Option<&F::Lanes>,
    y: &mut F::Lanes,
) {
    for n in 0..registers::<S>() {
        store_one::<S, F>(set, n, product, skip, y);
    }
}

/// A step of 1x1: tile by tile.
pub struct Pointwise<'a, F: Format> {
    pub share: Share<'a, F>,
    pub tile: &'a mut [F::Lanes],
    pub output: &'a mut [Lanes],
}

impl<F: Format> Task for Pointwise<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(mut self, set: S) {
        let Step { layer, norm, .. } = self.share.step;
        let parts = layer.input_parts();
        let tile = &mut self.tile[..TILE * parts];
        let pixels = layer.output_pixels();
        let mut starts = [0; TILE];
        for first in (0..pixels).step_by(TILE) {
            let count = TILE.min(pixels - first);
            for (p, start) in starts[..count].iter_mut().enumerate() {
                *start = tile::input_pixel(layer, first + p) * parts;
            }
            activate::<S, F>(set, norm, self.share.x, &starts[..count], tile);
            let kernel = self.share.kernel;
            if let Some((y, add)) = self.share.place(first, count) {
                tile::product::<S, F>(set, tile, kernel, count, y, add);
                continue;
            }
            let output = &mut self.output[..count * layer.output_parts()];
            tile::product::<S, F>(set, tile, kernel, count, output, false);
            self.share.store(set, first, output);
        }
    }
}

/// The activations of the pixels that begin at these `starts` of `x`, in panels. Some channels come after the others, as
/// `x` is in the cache already.
#[inline(always)]
fn activate<S: Set, F: Format>(
    set: S,
    norm: &Norm,
    x: &[F::Lanes],
    starts: &[usize],
    tile: &mut [F::Lanes],
) {
    for (part, panel) in tile.chunks_exact_mut(TILE).enumerate() {
        for n in 0..registers::<S>() {
            let norm = norm.of_register(set, part, n);
            for (start, lanes) in starts.iter().zip(&mut *panel) {
                let a = norm.activate(set, F::get(set, &x[start + part], n));
                F::put(set, lanes, n, a);
            }
        }
    }
    tile::end_pairs::<F>(tile, starts.len());
}

/// The image with a border that a 3x3 layer reads, and its tiles where it is computed in them.
pub struct Bordered<F: Format> {
    padded: Padded<F>,
    tiles: Option<Convolution>,
}

impl<F: Format> Bordered<F> {
    pub fn new(isa: Isa, layer: &Layer) -> Self {
        let tiles = winograd::tile_of_an_image::<F>(isa, layer);
        Self {
            padded: Padded::new([layer.height, layer.width], layer.input_parts(), 1),
            tiles: tiles.map(|results| Convolution::forward(layer, results, 1)),
        }
    }

    /// The convolution `y` of the image.
    #[inline(always)]
    fn convolve<S: Set>(&mut self, set: S, layer: &Layer, kernel: &[f32], y: &mut [Lanes]) {
        let (image, ahead) = (slice::from_ref(&self.padded), &mut Ahead::nothing());
        match &mut self.tiles {
            Some(tiles) => tiles.compute(set, image, kernel, y, ahead),
            None => {
                let (walks, width) = (Walk::forward(layer), layer.output_width());
                convolve(set, image, walks, width, kernel, y, ahead);
            }
        }
    }
}

/// A step of 3x3.
pub struct Conv3x3<'a, F: Format> {
    pub share: Share<'a, F>,
    pub bordered: &'a mut Bordered<F>,
    pub output: &'a mut [Lanes],
    pub pooled: &'a mut [Lanes],
    pub chosen: &'a mut [F::Lanes],
}

impl<F: Format> Task for Conv3x3<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let Self {
            mut share,
            bordered,
            ..
        } = self;
        let Step { layer, norm, .. } = share.step;
        let (x, kernel) = (&share.x[..layer.input_len()], share.kernel);
        bordered.padded.activate(set, norm, x);
        let output = &mut self.output[..layer.output_len()];
        let (y, is_result) = match share.place(0, layer.output_pixels()) {
            Some((y, false)) => (y, true),
            _ => (&mut *output, false),
        };
        bordered.convolve(set, layer, kernel, y);
        if is_result {
            return;
        }
        if layer.pools {
            let pooled = &mut self.pooled[..layer.result_len()];
            let chosen = &mut self.chosen[..layer.result_len()];
            pool::largest::<S, F>(set, layer, output, pooled, chosen);
            share.store(set, 0, pooled);
        } else {
            share.store(set, 0, output);
        }
    }
}
