//! 1x1 convolutions, with any stride: products of a tile of pixels with the kernel.
//!
//! A tile's activations are computed into panels of 16 channels, `[C / 16, TILE, 16]`, which stay in
//! the cache; they never reach memory.

pub(super) mod tile;

use tile::{
    Inputs, TILE, activate, end_pairs, input_pixel, multiplications, product_of_parts,
    rows_of_block,
};

use super::aligned::Aligned;
use super::format::{Format, Lanes, get, registers};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, NormGradient, Sums};
use super::parts::{self, OfParts};
use super::prefetch::{Ahead, some};
use super::result::{Results, Stored};
use super::sets::{self, Set, Task};
use super::tasks::{self, ForwardShare};
use super::tiles::{tiles_for, turn};
use crate::isa::Isa;

/// y = conv(relu(norm(x))) `[N, h, w, O]`, with `skip` added where there is one. There is no pooling.
///
/// # Panics
/// When there are no kernels for `isa` on this processor.
pub fn forward<F: Format>(
    isa: Isa,
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    kernel: &[f32],
    skip: Option<&[F::Lanes]>,
    out: &mut Output<F>,
) {
    let kernel = &F::pack(kernel, layer.inputs, layer.outputs);
    tasks::forward(layer, norm, x, kernel, skip, out, |share| {
        sets::run::<F, _>(isa, Forward(share))
    });
}

/// [`forward`] of some images.
struct Forward<'a, F: Format>(ForwardShare<'a, F>);

impl<F: Format> Task for Forward<'_, F> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Moments {
        let ForwardShare {
            layer,
            norm,
            x,
            kernel,
            skip,
            y,
            ..
        } = self.0;
        let parts = layer.output_parts();
        let pixels = y.len() / parts;
        let mut inputs = Inputs::<F>::new(layer);
        let mut a = Aligned::zeros(TILE * layer.input_parts());
        let mut out = Aligned::zeros(TILE * parts::MOST);
        let mut results = Results::new(parts);
        for first in (0..pixels).step_by(TILE) {
            let count = TILE.min(pixels - first);
            let skips = skip.unwrap_or_default();
            let next_skip = some(skips, (first + TILE) * parts, TILE * parts);
            let next = [inputs.of_next_tile(x, first), next_skip, &[], &[]];
            let (y, y_later) = y[first * parts..].split_at_mut(count * parts);
            let next_y = some(&*y_later, 0, TILE * parts);
            let ahead = &mut Ahead::new(next, next_y, multiplications::<F>(layer));
            let x = inputs.of_tile(x, first, count);
            activate::<S, F>(set, norm, x, &mut a);
            let mut tile = ForwardTile::<F> {
                a: &a,
                kernel,
                skip: skip.map(|skip| &skip[first * parts..]),
                y,
                parts,
                out: &mut out,
                results: &mut results,
                ahead,
            };
            parts::in_order(set, parts, &mut tile);
            results.finish(count);
        }
        results.moments()
    }
}

/// The results of a tile, from its activations `a`.
struct ForwardTile<'a, F: Format> {
    a: &'a [F::Lanes],
    kernel: &'a [f32],
    skip: Option<&'a [F::Lanes]>,
    y: &'a mut [F::Lanes],
    /// Of a pixel's results.
    parts: usize,
    /// For products.
    out: &'a mut [Lanes],
    results: &'a mut Results,
    ahead: &'a mut Ahead,
}

impl<F: Format> OfParts for ForwardTile<'_, F> {
    #[inline(always)]
    fn run<S: Set, const P: usize>(&mut self, set: S, part: usize) {
        let rows = rows_of_block::<S, F>(set, P);
        for (block, y) in self.y.chunks_mut(rows * self.parts).enumerate() {
            let first = block * rows;
            let rows = y.len() / self.parts;
            let out = &mut self.out[..rows * P];
            let product = product_of_parts::<F>(self.a, self.kernel, [first, part], [rows, P]);
            let ahead = Some(&mut *self.ahead);
            product.compute_beside::<S, F>(set, out.as_flattened_mut(), P * PANEL, false, ahead);
            let stored = Stored::<F> {
                product: out,
                row: P,
                skip: self.skip.map(|skip| &skip[first * self.parts..]),
                y,
            };
            self.results.store_parts::<S, F, P>(set, part, stored);
        }
    }
}

/// The gradients of [`forward`] at `x`.
///
/// # Panics
/// As [`forward`].
pub fn backward<F: Format>(
    isa: Isa,
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    kernel: &[f32],
    dy: &OutputGradient<F>,
    out: &mut Gradients<F>,
) {
    let turned = transpose(kernel, layer.inputs, layer.outputs);
    let turned = &F::pack(&turned, layer.outputs, layer.inputs);
    tasks::backward(layer, norm, x, turned, dy, out, |share| {
        sets::run::<F, _>(isa, Backward(share))
    });
}

/// [`backward`] of some images.
struct Backward<'a, F: Format>(BackwardShare<'a, F>);

/// What a task's tiles are computed in.
struct Buffers<F: Format> {
    /// The activations, in panels.
    a: Aligned<F::Lanes>,
    /// The gradient of the output, in panels.
    d: Aligned<F::Lanes>,
    /// The gradient of the activations, of some pixels and channels.
    da: Aligned<Lanes>,
    /// For `a` and `d` as pairs of pixels, in formats that have them.
    pairs: [Aligned<Lanes>; 2],
    /// The pairs of `a` `[C, TILE / 2]`, where they are multiplied on tiles.
    turned: Aligned<f32>,
}

impl<F: Format> Buffers<F> {
    fn new(layer: &Layer, on_tiles: bool) -> Self {
        let (inputs, outputs) = (TILE * layer.input_parts(), TILE * layer.output_parts());
        Self {
            a: Aligned::zeros(inputs),
            d: Aligned::zeros(outputs),
            da: Aligned::zeros(TILE * parts::MOST),
            pairs: [inputs, outputs].map(|len| match F::VALUES {
                1 => Aligned::zeros(0),
                values => Aligned::zeros(len / values),
            }),
            turned: Aligned::zeros(match on_tiles {
                true => inputs / F::VALUES * PANEL,
                false => 0,
            }),
        }
    }
}

impl<F: Format> Task for Backward<'_, F> {
    type Output = Part;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Part {
        let BackwardShare {
            layer,
            norm,
            x,
            turned,
            dy,
            start,
            mut sum,
            dz,
        } = self.0;
        let (inputs, outputs) = (layer.input_parts(), layer.output_parts());
        let pixels = dz.len() / layer.input_len() * layer.output_pixels();
        let mut sums = Sums::new(inputs);
        let mut kernel = vec![0.0; layer.kernel_len()];
        let mut buffers = Buffers::<F>::new(layer, tiles_for::<S, F>(set).is_some());
        let mut tiles = Inputs::<F>::new(layer);
        if layer.stride > 1 {
            dz.fill(F::ZERO);
        }
        for first in (0..pixels).step_by(TILE) {
            let count = TILE.min(pixels - first);
            let at = start + first * outputs;
            let (tile_sum, sum_later) = sum.split_at_mut(sum.len().min(count * outputs));
            sum = sum_later;
            let mut scattered = vec![F::ZERO; tiles.scattered(count)];
            let (tile_dz, dz_later) = match layer.stride {
                1 => dz[first * inputs..].split_at_mut(count * inputs),
                _ => (&mut scattered[..], &mut [][..]),
            };
            let later = [&*sum, tiles.of_next_tile(x, first), &*dz_later];
            let ahead = &mut ahead_of_tile(layer, dy, at + TILE * outputs, later);

            let Buffers { a, d, .. } = &mut buffers;
            let x = tiles.of_tile(x, first, count);
            activate::<S, F>(set, norm, x, a);
            output_gradient(set, dy, at, tile_sum, [count, outputs], d);
            kernel_gradient::<S, F>(set, count, &mut buffers, &mut kernel, ahead);
            let Buffers { a, d, da, .. } = &mut buffers;
            let mut tile = BackwardTile::<F> {
                mean: &norm.mean,
                turned,
                a,
                d,
                x,
                dz: tile_dz,
                da,
                sums: &mut sums,
                ahead,
            };
            parts::in_order(set, inputs, &mut tile);
            sums.flush();
            for (p, pixel) in scattered.chunks_exact(inputs).enumerate() {
                let at = input_pixel(layer, first + p) * inputs;
                dz[at..at + inputs].copy_from_slice(pixel);
            }
        }
        Part {
            sums: sums.finish(),
            kernel,
        }
    }
}

/// What the next tile of the way back takes: the gradient of its result, which begins at `at` in `dy`, and what is left of
/// the other branch's gradient, of the input and of the result `dz`.
#[inline(always)]
fn ahead_of_tile<F: Format>(
    layer: &Layer,
    dy: &OutputGradient<F>,
    at: usize,
    [sum, x, dz]: [&[F::Lanes]; 3],
) -> Ahead {
    let (inputs, outputs) = (layer.input_parts(), layer.output_parts());
    let [behind, x_behind] = dy.behind().map(|lanes| some(lanes, at, TILE * outputs));
    let reads = [behind, x_behind, some(sum, 0, TILE * outputs), x];
    // Those for the kernel's gradient are as many as those for the activations'.
    let work = 2 * multiplications::<F>(layer);
    Ahead::new(reads, some(dz, 0, TILE * inputs), work)
}

/// The gradient of `count` output pixels, which begins at `from` in `dy`, in panels.
#[inline(always)]
fn output_gradient<S: Set, F: Format>(
    set: S,
    dy: &OutputGradient<F>,
    from: usize,
    sum: &mut [F::Lanes],
    [count, outputs]: [usize; 2],
    d: &mut [F::Lanes],
) {
    if let OutputGradient::Junction {
        norm,
        dz,
        x,
        joined,
    } = dy
    {
        let branch = [&dz[from..], &x[from..]];
        put_together::<S, F>(set, (norm, *joined), branch, outputs, sum, d);
    } else {
        for (part, panel) in d.chunks_exact_mut(TILE).enumerate() {
            for n in 0..registers::<S>() {
                for (p, lanes) in panel[..count].iter_mut().enumerate() {
                    let index = from + p * outputs + part;
                    F::put(set, lanes, n, dy.at(set, index, part, n));
                }
            }
        }
    }
    end_pairs::<F>(d, count);
}

/// The gradient of a tile's result out of two branches: in the place of the other one's, `sum`, and in the panels `d`.
#[inline(always)]
fn put_together<S: Set, F: Format>(
    set: S,
    (norm, joined): (&NormGradient, bool),
    [dz, x]: [&[F::Lanes]; 2],
    outputs: usize,
    sum: &mut [F::Lanes],
    d: &mut [F::Lanes],
) {
    for (part, panel) in d.chunks_exact_mut(TILE).enumerate() {
        for n in 0..registers::<S>() {
            let norm = norm.of_register(set, part, n);
            let branch = dz.chunks_exact(outputs).zip(x.chunks_exact(outputs));
            let pixels = sum.chunks_exact_mut(outputs).zip(branch);
            for (lanes, (sum, (dz, x))) in panel.iter_mut().zip(pixels) {
                let (dz, x) = (F::get(set, &dz[part], n), F::get(set, &x[part], n));
                let values = [dz, x, F::get(set, &sum[part], n)];
                let dy = norm.apply_at_junction(set, values, joined);
                F::put(set, &mut sum[part], n, dy);
                F::put(set, lanes, n, dy);
            }
        }
    }
}

/// The way from the gradient of a tile's result, `d`, to that of its input, of which `a` are the activations.
struct BackwardTile<'t, F: Format> {
    mean: &'t [Lanes],
    turned: &'t [f32],
    a: &'t [F::Lanes],
    d: &'t [F::Lanes],
    /// `[pixels, C]`, and so is `dz`.
    x: &'t [F::Lanes],
    dz: &'t mut [F::Lanes],
    /// For the gradient of the activations.
    da: &'t mut [Lanes],
    sums: &'t mut Sums,
    ahead: &'t mut Ahead,
}

impl<F: Format> OfParts for BackwardTile<'_, F> {
    #[inline(always)]
    fn run<S: Set, const P: usize>(&mut self, set: S, part: usize) {
        let parts = self.mean.len();
        let rows = rows_of_block::<S, F>(set, P);
        let blocks = self.dz.chunks_mut(rows * parts);
        for (block, (x, dz)) in self.x.chunks(rows * parts).zip(blocks).enumerate() {
            let first = block * rows;
            let rows = x.len() / parts;
            let da = &mut self.da[..rows * P];
            let product = product_of_parts::<F>(self.d, self.turned, [first, part], [rows, P]);
            let ahead = Some(&mut *self.ahead);
            product.compute_beside::<S, F>(set, da.as_flattened_mut(), P * PANEL, false, ahead);
            for n in 0..registers::<S>() {
                let mut running = [self.sums.at(set, part, n); P];
                let mut means = [set.zero(); P];
                for q in 0..P {
                    running[q] = self.sums.at(set, part + q, n);
                    means[q] = get(set, &self.mean[part + q], n);
                }
                let pixels = x.chunks_exact(parts).zip(dz.chunks_exact_mut(parts));
                for (p, ((x, dz), da)) in pixels.zip(da.chunks_exact(P)).enumerate() {
                    let (x, dz) = (&x[part..][..P], &mut dz[part..][..P]);
                    for q in 0..P {
                        let seen = [&self.a[(part + q) * TILE + first + p], &x[q]];
                        running[q].store_gradient::<F>(set, n, means[q], seen, &da[q], &mut dz[q]);
                    }
                }
                for (q, running) in running.into_iter().enumerate() {
                    self.sums.put(set, part + q, n, running);
                }
            }
        }
    }
}

/// Adds aᵀ · d of a tile to `kernel` `[C, O]`.
#[inline(always)]
fn kernel_gradient<S: Set, F: Format>(
    set: S,
    count: usize,
    Buffers {
        a,
        d,
        pairs: [a_pairs, d_pairs],
        turned,
        ..
    }: &mut Buffers<F>,
    kernel: &mut [f32],
    ahead: &mut Ahead,
) {
    let outputs = d.len() / TILE * PANEL;
    let a = F::along_pixels(set, a, 1, 1, a_pairs);
    let d = F::along_pixels(set, d, 1, 1, d_pairs);
    let panel = TILE / F::VALUES * PANEL;
    let right = Right {
        data: d,
        step: PANEL,
        segment: 0,
        panel,
    };
    let depth = Depth {
        segments: 1,
        length: count.div_ceil(F::VALUES),
    };
    let panels = outputs / PANEL;
    if let Some(mut tiles) = tiles_for::<S, F>(set) {
        let row = TILE / F::VALUES;
        let parts = a.chunks_exact(panel).zip(turned.chunks_exact_mut(panel));
        for (a, turned) in parts {
            turn(&mut tiles, a, turned, [PANEL, row], depth.length);
        }
        let left = Left {
            data: turned,
            row,
            step: 1,
            segment: 0,
        };
        let product = Product {
            left,
            right,
            depth,
            rows: a.len() / row,
            panels,
        };
        return product.compute_beside::<S, F>(set, kernel, outputs, true, Some(ahead));
    }
    for (a, kernel) in a
        .chunks_exact(panel)
        .zip(kernel.chunks_exact_mut(PANEL * outputs))
    {
        let product = Product {
            left: Left {
                data: a,
                row: 1,
                step: PANEL,
                segment: 0,
            },
            right,
            depth,
            rows: PANEL,
            panels,
        };
        product.compute_beside::<S, F>(set, kernel, outputs, true, Some(&mut *ahead));
    }
}
