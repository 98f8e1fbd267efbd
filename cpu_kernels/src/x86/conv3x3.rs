//! 3x3 convolutions: one padded image at a time, or a few where `winograd` computes them in tiles.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.
//!
//! On the way back from a stride, each pixel of the input takes the gradient from only some of the taps: `Walk::back`.

use rayon::prelude::*;

use super::format::{Format, Lanes};
use super::gemm::PANEL;
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, Sums};
use super::padded::{Padded, kernel_gradient};
use super::pool;
use super::result::Results;
use super::sets::{self, Set, Task};
use super::tasks::{self, ForwardShare};
use super::walk::{TAPS, Walk, groups};
use super::winograd::{self, Tiles};
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
    let kernel = &match winograd::suits(layer) {
        true => winograd::transformed::<F>(isa, kernel, layer.inputs, layer.outputs),
        false => F::pack(kernel, 9 * layer.inputs, layer.outputs),
    };
    tasks::forward(layer, x, out, |share| {
        let task = Forward::<F> {
            layer,
            norm,
            kernel,
            skip: skip.map(|skip| &skip[share.start..]),
            share,
        };
        sets::run::<F, _>(isa, task)
    });
}

/// [`forward`] of some images.
struct Forward<'a, F: Format> {
    layer: &'a Layer,
    norm: &'a Norm,
    /// Packed, or [`winograd::transformed`].
    kernel: &'a [f32],
    skip: Option<&'a [F::Lanes]>,
    share: ForwardShare<'a, F>,
}

impl<F: Format> Task for Forward<'_, F> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Moments {
        let (layer, norm) = (self.layer, self.norm);
        let ForwardShare { x, y, chosen, .. } = self.share;
        let (output_len, len) = (layer.output_len(), layer.result_len());
        let mut tiles = Tiles::new(layer);
        let together = images_together::<F>(tiles.as_ref(), y.len() / len);
        let size = [layer.height, layer.width];
        let mut padded = padded_images::<F>(together, size, layer.input_parts(), 1);
        let mut output = vec![[0.0; PANEL]; together * output_len];
        let mut pooled = vec![[0.0; PANEL]; len];
        let mut results = Results::new(layer.output_parts());
        let walks = Walk::forward(layer);
        let groups = x.chunks(together * layer.input_len());
        for (group, (x, y)) in groups.zip(y.chunks_mut(together * len)).enumerate() {
            let padded = &mut padded[..y.len() / len];
            for (padded, x) in padded.iter_mut().zip(x.chunks_exact(layer.input_len())) {
                padded.activate(set, norm, x);
            }
            match &mut tiles {
                Some(tiles) => tiles.forward(set, padded, self.kernel, &mut output),
                None => {
                    for padded in padded {
                        let width = layer.output_width();
                        padded.convolve(set, walks, width, self.kernel, &mut output);
                    }
                }
            }
            let outputs = output.chunks_exact(output_len);
            for (image, (output, y)) in outputs.zip(y.chunks_exact_mut(len)).enumerate() {
                let start = (group * together + image) * len;
                if layer.pools {
                    let chosen = &mut chosen[start..][..len];
                    pool::largest::<S, F>(set, layer, output, &mut pooled, chosen);
                    results.store::<S, F>(set, &pooled, None, y);
                } else {
                    let skip = self.skip.map(|skip| &skip[start..]);
                    results.store::<S, F>(set, output, skip, y);
                }
            }
        }
        results.moments()
    }
}

/// Of a task's images, how many are computed together: one, but for tiles.
fn images_together<F: Format>(tiles: Option<&Tiles>, images: usize) -> usize {
    tiles.map_or(1, Tiles::images::<F>).min(images)
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
    let turned = &turned::<F>(isa, kernel, layer);
    tasks::backward(layer, norm, x, turned, dy, out, |share| {
        sets::run::<F, _>(isa, Backward(share))
    });
}

/// [`backward`] of some images.
struct Backward<'a, F: Format>(BackwardShare<'a, F>);

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
            ..
        } = self.0;
        let input_len = layer.input_len();
        let (forward, back) = (Walk::forward(layer), Walk::back(layer));
        let mut tiles = Tiles::new(layer);
        let together = images_together::<F>(tiles.as_ref(), dz.len() / input_len);
        let size = [layer.height, layer.width];
        let mut a = padded_images::<F>(together, size, layer.input_parts(), layer.stride);
        let size = [layer.output_height(), layer.output_width()];
        let mut d = padded_images::<F>(together, size, layer.output_parts(), 1);
        let mut da = vec![[0.0; PANEL]; together * input_len];
        let mut sums = Sums::new(layer.input_parts());
        let len = tiles
            .as_ref()
            .map_or(layer.kernel_len(), Tiles::gradient_len);
        let mut kernel = vec![0.0; len];
        let groups = x.chunks(together * input_len);
        for (group, (x, dz)) in groups.zip(dz.chunks_mut(together * input_len)).enumerate() {
            let images = dz.len() / input_len;
            let (a, d) = (&mut a[..images], &mut d[..images]);
            for (image, (a, x)) in a.iter_mut().zip(x.chunks_exact(input_len)).enumerate() {
                a.activate(set, norm, x);
                let start = self.0.start + (group * together + image) * layer.result_len();
                output_gradient(set, layer, self.0.dy, start, &mut d[image]);
            }
            match &mut tiles {
                Some(tiles) => {
                    tiles.add_kernel_gradient(set, a, d, &mut kernel);
                    tiles.activation_gradient(set, d, turned, &mut da);
                }
                None => {
                    for (a, d) in a.iter_mut().zip(d) {
                        kernel_gradient(set, a, d, forward, &mut kernel);
                        activation_gradient(set, layer, &back, d, turned, &mut da);
                    }
                }
            }
            let images = a.iter().zip(da.chunks_exact(input_len));
            let results = x
                .chunks_exact(input_len)
                .zip(dz.chunks_exact_mut(input_len));
            for ((a, da), (x, dz)) in images.zip(results) {
                input_gradient(set, norm, x, a, da, dz, &mut sums);
            }
        }
        Part {
            sums: sums.finish(),
            kernel: match tiles {
                Some(_) => winograd::kernel_gradient(set, kernel),
                None => kernel,
            },
        }
    }
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

/// The gradient `da` of an image's activations, from the gradient `d` of its output. Where no tap leads, `da` stays as it
/// is.
#[inline(always)]
fn activation_gradient<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    [rows, columns]: &[Vec<Walk>; 2],
    d: &Padded<F>,
    mut turned: &[f32],
    da: &mut [Lanes],
) {
    for rows in rows {
        for columns in columns {
            let len = rows.taps * columns.taps * layer.inputs * layer.outputs / F::VALUES;
            let (kernel, others) = turned.split_at(len);
            d.convolve(set, [*rows, *columns], layer.width, kernel, da);
            turned = others;
        }
    }
}

/// dz of an image, from the gradient `da` of its activations `a`.
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
    let parts = norm.mean.len();
    for (pixel, (da, dz)) in da
        .chunks_exact(parts)
        .zip(dz.chunks_exact_mut(parts))
        .enumerate()
    {
        let (a, x) = (a.at(pixel), &x[pixel * parts..][..parts]);
        for part in 0..parts {
            let seen = [&a[part], &x[part]];
            sums.store_gradient::<S, F>(set, norm, part, seen, &da[part], &mut dz[part]);
        }
    }
    sums.flush();
}

/// The kernel `[3, 3, C, O]` as [`activation_gradient`] takes it: turned by half a turn and its channels exchanged,
/// `[taps, O, C]` for each group of rows and each of columns, packed. Or as [`Tiles::activation_gradient`] takes it.
fn turned<F: Format>(isa: Isa, kernel: &[f32], layer: &Layer) -> Vec<f32> {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let taps: Vec<_> = kernel.chunks_exact(inputs * outputs).collect();
    if winograd::suits(layer) {
        let turned = taps.par_iter().rev();
        let turned: Vec<_> = turned.map(|tap| transpose(tap, inputs, outputs)).collect();
        return winograd::transformed::<F>(isa, &turned.concat(), outputs, inputs);
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
            packed.extend(F::pack(&turned, turned.len() / inputs, inputs));
        }
    }
    packed
}
