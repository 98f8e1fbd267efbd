//! 3x3 convolutions of stride 1: one padded image at a time.
//!
//! With a border of zeros around an image, the three pixels under a row of the kernel lie side by
//! side, `3 C` values: a row of results is three products with thirds of the kernel.

use super::format::{Format, Lanes};
use super::gemm::PANEL;
use super::layer::{BackwardShare, Gradients, Layer, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, Sums};
use super::padded::{Padded, kernel_gradient};
use super::result::Results;
use super::sets::{self, Set, Task};
use super::tasks;
use crate::isa::Isa;

/// y = conv(relu(norm(x))) `[N, H, W, O]`; the mean and the variance of each output channel go into
/// `moments` `[2, O]`.
///
/// # Panics
/// When there are no kernels for `isa` on this processor.
pub fn forward<F: Format>(
    isa: Isa,
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    kernel: &[f32],
    y: &mut [F::Lanes],
    moments: &mut [f32],
) {
    let kernel = &F::pack(kernel, 9 * layer.inputs, layer.outputs);
    tasks::forward(layer, x, y, moments, |x, _, y| {
        let task = Forward::<F> {
            layer,
            norm,
            x,
            kernel,
            y,
        };
        sets::run(isa, task)
    });
}

/// [`forward`] of some images.
struct Forward<'a, F: Format> {
    layer: &'a Layer,
    norm: &'a Norm,
    x: &'a [F::Lanes],
    /// Packed.
    kernel: &'a [f32],
    y: &'a mut [F::Lanes],
}

impl<F: Format> Task for Forward<'_, F> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Moments {
        let (layer, norm) = (self.layer, self.norm);
        let mut padded = Padded::<F>::new(layer, layer.input_parts());
        let mut out = vec![[0.0; PANEL]; layer.output_len()];
        let mut results = Results::new(layer.output_parts());
        let images = self.x.chunks_exact(layer.input_len());
        for (x, y) in images.zip(self.y.chunks_exact_mut(layer.output_len())) {
            padded.fill(set, |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            padded.convolve(set, self.kernel, &mut out);
            results.store::<S, F>(set, &out, None, y);
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
            let start = self.0.start + image * layer.output_len();
            a.fill(set, |index, part, n| {
                norm.activate(set, part, n, F::get(set, &x[index], n))
            });
            d.fill(set, |index, part, n| {
                self.0.dy.at(set, start + index, part, n)
            });
            kernel_gradient(set, &mut a, &mut d, &mut kernel);
            d.convolve(set, self.0.turned, &mut da);
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
