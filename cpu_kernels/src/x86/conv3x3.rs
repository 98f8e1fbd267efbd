//! 3x3 convolutions: one padded image at a time, or a few where `winograd` computes them in tiles.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.
//!
//! On the way back from a stride, each pixel of the input takes the gradient from only some of the taps: `Walk::back`.

use rayon::prelude::*;

use super::aligned::Aligned;
use super::format::{Format, Lanes, get, registers};
use super::gemm::PANEL;
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, Sums};
use super::padded::{self, Padded, convolve, kernel_gradient, rows_at_a_time};
use super::pool;
use super::prefetch::{Ahead, some};
use super::result::Results;
use super::sets::{self, Set, Task};
use super::tasks::{self, ForwardShare};
use super::tiles::{self, tiles_for};
use super::walk::{TAPS, Walk, groups};
use super::winograd::{self, Convolution, KernelGradient};
use crate::isa::Isa;

/// y = conv(relu(norm(x))) `[N, h, w, O]`, with `skip` added where there is one, or pooled where `layer` says so.
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
    let tile = winograd::tile::<F>(isa, layer);
    let kernel = &winograd::packed::<F>(isa, layer, kernel, tile);
    tasks::forward(layer, norm, x, kernel, skip, out, |share| {
        sets::run::<F, _>(isa, Forward { share, tile })
    });
}

/// [`forward`] of some images, in [`winograd::tile`]s.
struct Forward<'a, F: Format> {
    share: ForwardShare<'a, F>,
    tile: Option<usize>,
}

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
            chosen,
        } = self.share;
        let (input_len, output_len) = (layer.input_len(), layer.output_len());
        let len = layer.result_len();
        let all = y.len() / len;
        let mut tiles = self
            .tile
            .map(|results| Convolution::forward(layer, results, all));
        let together = match &tiles {
            Some(tiles) => tiles.images::<F>(),
            None => images_at_a_time::<S, F>(set, layer),
        };
        let together = together.min(all);
        let size = [layer.height, layer.width];
        let mut padded = padded_images::<F>(together, size, layer.input_parts(), 1);
        let mut output = Aligned::zeros(together * output_len);
        let mut pooled = vec![[0.0; PANEL]; if layer.pools { len } else { 0 }];
        let mut results = Results::new(layer.output_parts());
        let walks = Walk::forward(layer);
        let skips = skip.unwrap_or_default();
        let (mut first, mut rest) = (0, y);
        while !rest.is_empty() {
            let images = together.min(rest.len() / len);
            let group = Group { first, images };
            let (y, later) = rest.split_at_mut(images * len);
            let reads = [group.next(x, input_len), group.next(skips, len), &[], &[]];
            let writes = some(later, 0, images * len);
            let work = match &tiles {
                Some(tiles) => tiles.steps(images),
                None => images * padded::work::<F>(walks, [layer.inputs, layer.outputs]),
            };
            let ahead = &mut Ahead::new(reads, writes, work);
            let padded = &mut padded[..images];
            let inputs = group.of(x, input_len).chunks_exact(input_len);
            for (padded, x) in padded.iter_mut().zip(inputs) {
                padded.activate(set, norm, x);
            }
            match &mut tiles {
                Some(tiles) => tiles.compute(set, padded, kernel, &mut output, ahead),
                None => {
                    let width = layer.output_width();
                    let output = &mut output[..images * output_len];
                    convolve(set, padded, walks, width, kernel, output, ahead);
                }
            }
            let outputs = output.chunks_exact(output_len);
            for (image, (output, y)) in outputs.zip(y.chunks_exact_mut(len)).enumerate() {
                let start = (first + image) * len;
                if layer.pools {
                    let chosen = &mut chosen[start..][..len];
                    pool::largest::<S, F>(set, layer, output, &mut pooled, chosen);
                    results.store::<S, F>(set, &pooled, None, y);
                } else {
                    let skip = skip.map(|skip| &skip[start..]);
                    results.store::<S, F>(set, output, skip, y);
                }
            }
            (first, rest) = (first + images, later);
        }
        results.moments()
    }
}

/// Images that are computed together where they are not [in tiles](winograd::tile).
fn images_at_a_time<S: Set, F: Format>(set: S, layer: &Layer) -> usize {
    match tiles_for::<S, F>(set) {
        Some(_) if layer.stride == 1 => tiles::KernelGradient::images(layer),
        _ => 1,
    }
}

/// The images of a task that are computed together.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    images: usize,
}

impl Group {
    /// Their lanes among those of the task's images, each of which has `len`.
    fn of<T>(self, lanes: &[T], len: usize) -> &[T] {
        &lanes[self.first * len..][..self.images * len]
    }

    /// Those of the next group.
    fn next<T>(self, lanes: &[T], len: usize) -> &[T] {
        some(lanes, (self.first + self.images) * len, self.images * len)
    }
}

/// Room for `count` images with their borders: see [`Padded::new`].
fn padded_images<F: Format>(
    count: usize,
    size: [usize; 2],
    parts: usize,
    stride: usize,
) -> Vec<Padded<F>> {
    (0..count)
        .map(|_| Padded::new(size, parts, stride))
        .collect()
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
    let tile = winograd::tile::<F>(isa, layer);
    let turned = &turned::<F>(isa, kernel, layer, tile);
    tasks::backward(layer, norm, x, turned, dy, out, |share| {
        sets::run::<F, _>(isa, Backward { share, tile })
    });
}

/// [`backward`] of some images, in [`winograd::tile`]s.
struct Backward<'a, F: Format> {
    share: BackwardShare<'a, F>,
    tile: Option<usize>,
}

impl<F: Format> Task for Backward<'_, F> {
    type Output = Part;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Part {
        let BackwardShare {
            layer,
            norm,
            x,
            dz,
            turned,
            dy,
            start,
            ..
        } = self.share;
        let (input_len, len) = (layer.input_len(), layer.result_len());
        let (forward, back) = (Walk::forward(layer), Walk::back(layer));
        let all = dz.len() / input_len;
        let mut in_tiles = self.tile.map(|results| {
            let back = Convolution::back(layer, results, all);
            (back, KernelGradient::new::<F>(layer, results, all))
        });
        let together = match &in_tiles {
            Some((back, gradient)) => back.images::<F>().max(gradient.images::<F>()),
            None => images_at_a_time::<S, F>(set, layer),
        };
        let together = together.min(all);
        let size = [layer.height, layer.width];
        let mut a = padded_images::<F>(together, size, layer.input_parts(), layer.stride);
        let size = [layer.output_height(), layer.output_width()];
        let mut d = padded_images::<F>(together, size, layer.output_parts(), 1);
        let mut da = Aligned::zeros(together * input_len);
        let mut on_tiles = tiles_for::<S, F>(set)
            .filter(|_| layer.stride == 1)
            .map(|_| tiles::KernelGradient::new(&a, &d));
        let mut sums = Sums::new(layer.input_parts());
        let mut kernel = vec![
            0.0;
            match &in_tiles {
                Some((_, gradient)) => gradient.sums(),
                None => layer.kernel_len(),
            }
        ];
        let behind = dy.behind();
        let behind = behind.map(|lanes| some(lanes, start, lanes.len()));
        let (mut first, mut rest) = (0, dz);
        while !rest.is_empty() {
            let images = together.min(rest.len() / input_len);
            let group = Group { first, images };
            let (dz, later) = rest.split_at_mut(images * input_len);
            let [behind, x_behind] = behind.map(|lanes| group.next(lanes, len));
            let reads = [group.next(x, input_len), behind, x_behind, &[]];
            let writes = some(later, 0, images * input_len);
            let work = match (&in_tiles, &on_tiles) {
                (Some((back, _)), _) => back.steps(images),
                (None, Some(_)) => 2 * images * work_back::<F>(layer, &back),
                (None, None) => images * work_back::<F>(layer, &back),
            };
            let ahead = &mut Ahead::new(reads, writes, work);
            let (a, d) = (&mut a[..images], &mut d[..images]);
            let x = group.of(x, input_len);
            for (image, (a, x)) in a.iter_mut().zip(x.chunks_exact(input_len)).enumerate() {
                a.activate(set, norm, x);
                let start = start + (first + image) * len;
                output_gradient(set, layer, dy, start, &mut d[image]);
            }
            match &mut in_tiles {
                Some((back, gradient)) => {
                    gradient.add(set, a, d, &mut kernel);
                    back.compute(set, d, turned, &mut da, ahead);
                }
                None => {
                    match (&mut on_tiles, tiles_for::<S, F>(set)) {
                        (Some(gradient), Some(tiles)) => {
                            gradient.add(set, tiles, [a, d], &mut kernel, ahead);
                        }
                        _ => {
                            for (a, d) in a.iter_mut().zip(&mut *d) {
                                kernel_gradient(set, a, d, forward, &mut kernel);
                            }
                        }
                    }
                    let da = &mut da[..images * input_len];
                    activation_gradient(set, layer, &back, d, turned, da, ahead);
                }
            }
            let activations = a.iter().zip(da.chunks_exact(input_len));
            let results = x
                .chunks_exact(input_len)
                .zip(dz.chunks_exact_mut(input_len));
            for ((a, da), (x, dz)) in activations.zip(results) {
                input_gradient(set, norm, x, a, da, dz, &mut sums);
            }
            (first, rest) = (first + images, later);
        }
        Part {
            sums: sums.finish(),
            kernel: match in_tiles {
                Some((_, gradient)) => gradient.finish(set, kernel),
                None => kernel,
            },
        }
    }
}

/// The work of [`activation_gradient`] for an image.
#[inline(never)]
fn work_back<F: Format>(layer: &Layer, [rows, columns]: &[Vec<Walk>; 2]) -> usize {
    let mut work = 0;
    for rows in rows {
        for columns in columns {
            work += padded::work::<F>([*rows, *columns], [layer.outputs, layer.inputs]);
        }
    }
    work
}

/// The gradient `d` of the output of the image whose result begins at `start` in `dy`.
#[inline(always)]
fn output_gradient<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    dy: &OutputGradient<F>,
    start: usize,
    d: &mut Padded<F>,
) {
    match dy {
        OutputGradient::Pooled { dy, chosen } => {
            let of_image = [&dy[start..], &chosen[start..]];
            d.fill(set, |index, part, n| {
                let pixel = index / layer.output_parts();
                pool::gradient::<S, F>(set, layer, of_image, pixel, part, n)
            });
        }
        OutputGradient::BehindNorm { norm, dz, x } => {
            d.gradient_of_norm(set, norm, &dz[start..], &x[start..]);
        }
        dy => d.fill(set, |index, part, n| dy.at(set, start + index, part, n)),
    }
}

/// The gradients `da` of images' activations, from the gradients `d` of their outputs. Where no tap leads, `da` stays as it
/// is.
#[inline(always)]
fn activation_gradient<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    [rows, columns]: &[Vec<Walk>; 2],
    d: &[Padded<F>],
    mut turned: &[f32],
    da: &mut [Lanes],
    ahead: &mut Ahead,
) {
    for rows in rows {
        for columns in columns {
            let len = rows.taps * columns.taps * layer.inputs * layer.outputs / F::VALUES;
            let (kernel, others) = turned.split_at(len);
            let walks = [*rows, *columns];
            convolve(set, d, walks, layer.width, kernel, da, ahead);
            turned = others;
        }
    }
}

/// dz of an image, from the gradient `da` of its activations `a`: some channels of a few rows after the others, so that their
/// sums stay in registers.
#[inline(always)]
fn input_gradient<S: Set, F: Format>(
    set: S,
    norm: &Norm,
    x: &[F::Lanes],
    a: &Padded<F>,
    da: &[Lanes],
    dz: &mut [F::Lanes],
    sums: &mut Sums,
) {
    let [height, width] = a.size();
    let parts = norm.mean.len();
    let at_a_time = rows_at_a_time(width);
    for first in (0..height).step_by(at_a_time) {
        let rows = first..height.min(first + at_a_time);
        for part in 0..parts {
            for n in 0..registers::<S>() {
                let mean = get(set, &norm.mean[part], n);
                let mut running = sums.at(set, part, n);
                for i in rows.clone() {
                    let row = i * width * parts..(i + 1) * width * parts;
                    let (x, da, dz) = (&x[row.clone()], &da[row.clone()], &mut dz[row]);
                    let pixels = a
                        .pixels_of_row(i)
                        .chunks_exact(parts)
                        .zip(x.chunks_exact(parts));
                    let gradients = da.chunks_exact(parts).zip(dz.chunks_exact_mut(parts));
                    for ((a, x), (da, dz)) in pixels.zip(gradients) {
                        let seen = [&a[part], &x[part]];
                        running.store_gradient::<F>(set, n, mean, seen, &da[part], &mut dz[part]);
                    }
                }
                sums.put(set, part, n, running);
            }
        }
    }
    sums.flush();
}

/// The kernel `[3, 3, C, O]` as [`activation_gradient`] takes it: turned by half a turn and its channels exchanged,
/// `[taps, O, C]` for each group of rows and each of columns, packed. Or as [`Convolution::compute`] takes it in a `tile`.
fn turned<F: Format>(isa: Isa, kernel: &[f32], layer: &Layer, tile: Option<usize>) -> Aligned<f32> {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let taps: Vec<_> = kernel.chunks_exact(inputs * outputs).collect();
    if let Some(results) = tile {
        let turned = taps.par_iter().rev();
        let turned: Vec<_> = turned.map(|tap| transpose(tap, inputs, outputs)).collect();
        return winograd::transformed::<F>(isa, &turned.concat(), [outputs, inputs], results);
    }
    let mut packed = Vec::with_capacity(kernel.len());
    for rows in groups(layer.stride) {
        for columns in groups(layer.stride) {
            let mut turned = Vec::new();
            for a in rows.clone() {
                for b in columns.clone() {
                    turned.extend(transpose(taps[a * TAPS + b], inputs, outputs));
                }
            }
            packed.extend_from_slice(&F::pack(&turned, turned.len() / inputs, inputs));
        }
    }
    Aligned::from(&packed[..])
}
