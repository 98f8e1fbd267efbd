//! 3x3 convolutions: one padded image at a time.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.
//!
//! On the way back from a stride, each pixel of the input takes the gradient from only some of the taps: `Walk::back`.

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
    let kernel = &F::pack(kernel, 9 * layer.inputs, layer.outputs);
    tasks::forward(layer, x, out, |share| {
        let task = Forward::<F> {
            layer,
            norm,
            kernel,
            skip: skip.map(|skip| &skip[share.start..]),
            share,
        };
        sets::run(isa, task)
    });
}

/// [`forward`] of some images.
struct Forward<'a, F: Format> {
    layer: &'a Layer,
    norm: &'a Norm,
    /// Packed.
    kernel: &'a [f32],
    skip: Option<&'a [F::Lanes]>,
    share: ForwardShare<'a, F>,
}

impl<F: Format> Task for Forward<'_, F> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Moments {
        let (layer, norm) = (self.layer, self.norm);
        let size = [layer.height, layer.width];
        let mut padded = Padded::<F>::new(size, layer.input_parts(), 1);
        let mut output = vec![[0.0; PANEL]; layer.output_len()];
        let mut pooled = vec![[0.0; PANEL]; layer.result_len()];
        let mut results = Results::new(layer.output_parts());
        let ForwardShare { x, y, chosen, .. } = self.share;
        let images = x.chunks_exact(layer.input_len());
        let len = layer.result_len();
        let walks = Walk::forward(layer);
        for (image, (x, y)) in images.zip(y.chunks_exact_mut(len)).enumerate() {
            padded.fill(set, |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            let width = layer.output_width();
            padded.convolve(set, walks, width, self.kernel, &mut output);
            if layer.pools {
                let chosen = &mut chosen[image * len..][..len];
                pool::largest::<S, F>(set, layer, &output, &mut pooled, chosen);
                results.store::<S, F>(set, &pooled, None, y);
            } else {
                let skip = self.skip.map(|skip| &skip[image * len..]);
                results.store::<S, F>(set, &output, skip, y);
            }
        }
        results.moments()
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
    let turned = &turned::<F>(kernel, layer);
    tasks::backward(layer, norm, x, turned, dy, out, |share| {
        sets::run(isa, Backward(share))
    });
}

/// [`backward`] of some images.
struct Backward<'a, F: Format>(BackwardShare<'a, F>);

impl<F: Format> Task for Backward<'_, F> {
    type Output = Part;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Part {
        let (layer, norm) = (self.0.layer, self.0.norm);
        let (forward, back) = (Walk::forward(layer), Walk::back(layer));
        let mut sums = Sums::new(layer.input_parts());
        let mut kernel = vec![0.0; layer.kernel_len()];
        let size = [layer.height, layer.width];
        let mut a = Padded::<F>::new(size, layer.input_parts(), layer.stride);
        let size = [layer.output_height(), layer.output_width()];
        let mut d = Padded::<F>::new(size, layer.output_parts(), 1);
        let mut da = vec![[0.0; PANEL]; layer.input_len()];
        let images = self.0.x.chunks_exact(layer.input_len());
        for (image, (x, dz)) in images
            .zip(self.0.dz.chunks_exact_mut(layer.input_len()))
            .enumerate()
        {
            let start = self.0.start + image * layer.result_len();
            a.fill(set, |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            match self.0.dy {
                OutputGradient::Pooled { dy, chosen } => {
                    let of_image = [&dy[start..], &chosen[start..]];
                    d.fill(set, |index, part, n| {
                        let pixel = index / layer.output_parts();
                        pool::gradient::<S, F>(set, layer, of_image, pixel, part, n)
                    });
                }
                dy => d.fill(set, |index, part, n| dy.at(set, start + index, part, n)),
            }
            kernel_gradient(set, &mut a, &mut d, forward, &mut kernel);
            activation_gradient(set, layer, &back, &d, self.0.turned, &mut da);
            input_gradient(set, norm, x, &a, &da, dz, &mut sums);
        }
        Part {
            sums: sums.finish(),
            kernel,
        }
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
/// `[taps, O, C]` for each group of rows and each of columns, packed.
fn turned<F: Format>(kernel: &[f32], layer: &Layer) -> Vec<f32> {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let taps: Vec<_> = kernel.chunks_exact(inputs * outputs).collect();
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
