//! 3x3 convolutions: one padded image at a time.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.
//!
//! On the way back from a stride, the gradient of the output lies spread over an image of the input's size, with zeros
//! between its pixels. The products run over those too: four times the work that stride 2 needs for the input's gradient,
//! twice for the kernel's.

use super::format::{Format, Lanes};
use super::gemm::PANEL;
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, Sums};
use super::padded::{Centres, Padded, kernel_gradient};
use super::pool;
use super::result::Results;
use super::sets::{self, Set, Task};
use super::tasks::{self, ForwardShare};
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
        let mut padded = Padded::<F>::new(layer, layer.input_parts());
        let mut output = vec![[0.0; PANEL]; layer.output_len()];
        let mut pooled = vec![[0.0; PANEL]; layer.result_len()];
        let mut results = Results::new(layer.output_parts());
        let ForwardShare { x, y, chosen, .. } = self.share;
        let images = x.chunks_exact(layer.input_len());
        let len = layer.result_len();
        for (image, (x, y)) in images.zip(y.chunks_exact_mut(len)).enumerate() {
            padded.fill(set, Centres::all(layer), |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            padded.convolve(set, Centres::of_outputs(layer), self.kernel, &mut output);
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
    let turned = half_turn(kernel, layer.inputs, layer.outputs);
    let turned = &F::pack(&turned, 9 * layer.outputs, layer.inputs);
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
        let (all, outputs) = (Centres::all(layer), Centres::of_outputs(layer));
        let mut sums = Sums::new(layer.input_parts());
        let mut kernel = vec![0.0; layer.kernel_len()];
        let mut a = Padded::<F>::new(layer, layer.input_parts());
        let mut d = Padded::<F>::new(layer, layer.output_parts());
        let mut da = vec![[0.0; PANEL]; layer.input_len()];
        let images = self.0.x.chunks_exact(layer.input_len());
        for (image, (x, dz)) in images
            .zip(self.0.dz.chunks_exact_mut(layer.input_len()))
            .enumerate()
        {
            let start = self.0.start + image * layer.result_len();
            a.fill(set, all, |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            match self.0.dy {
                OutputGradient::Pooled { dy, chosen } => {
                    let of_image = [&dy[start..], &chosen[start..]];
                    d.fill(set, outputs, |index, part, n| {
                        let pixel = index / layer.output_parts();
                        pool::gradient::<S, F>(set, layer, of_image, pixel, part, n)
                    });
                }
                dy => d.fill(set, outputs, |index, part, n| {
                    dy.at(set, start + index, part, n)
                }),
            }
            kernel_gradient(set, &mut a, &mut d, outputs, &mut kernel);
            d.convolve(set, all, self.0.turned, &mut da);
            input_gradient(set, norm, x, &a, &da, dz, &mut sums);
        }
        Part {
            sums: sums.finish(),
            kernel,
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

/// The kernel `[3, 3, C, O]` turned by half a turn, its channels exchanged: `[3, 3, O, C]`.
fn half_turn(kernel: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let taps = kernel.chunks_exact(inputs * outputs).rev();
    taps.flat_map(|tap| transpose(tap, inputs, outputs))
        .collect()
}
