//! 1x1 convolutions, with any stride: products of a tile of pixels with the kernel.
//!
//! A tile's activations are computed into panels of 16 channels, `[C / 16, TILE, 16]`, which stay in
//! the cache; they never reach memory.

use super::format::{Format, Lanes, get, registers};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part, transpose};
use super::norm::{Moments, Norm, NormGradient, Sums};
use super::result::Results;
use super::sets::{self, Set, Task};
use super::tasks::{self, ForwardShare};
use crate::isa::Isa;

/// Pixels of a tile: what stays in a first or second level cache with all its channels. Even, for pairs of pixels.
pub const TILE: usize = 96;

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
    /// Packed.
    kernel: &'a [f32],
    skip: Option<&'a [F::Lanes]>,
    share: ForwardShare<'a, F>,
}

impl<F: Format> Task for Forward<'_, F> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> Moments {
        let layer = self.layer;
        let parts = layer.output_parts();
        let ForwardShare { x, y, .. } = self.share;
        let pixels = y.len() / parts;
        let mut tile = vec![F::ZERO; TILE * layer.input_parts()];
        let mut out = vec![[0.0; PANEL]; TILE * parts];
        let mut results = Results::new(parts);
        for first in (0..pixels).step_by(TILE) {
            let count = TILE.min(pixels - first);
            activate::<S, F>(set, layer, self.norm, x, first, count, &mut tile);
            let out = &mut out[..count * parts];
            product::<S, F>(set, &tile, self.kernel, count, out, false);
            let y = &mut y[first * parts..][..count * parts];
            let skip = self.skip.map(|skip| &skip[first * parts..]);
            results.store::<S, F>(set, out, skip, y);
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
    a: Vec<F::Lanes>,
    /// The gradient of the output, in panels.
    d: Vec<F::Lanes>,
    /// The gradient of the activations, `[TILE, C]`.
    da: Vec<Lanes>,
    /// For `a` and `d` as pairs of pixels, in formats that have them.
    pairs: [Vec<Lanes>; 2],
}

impl<F: Format> Buffers<F> {
    fn new(layer: &Layer) -> Self {
        let (inputs, outputs) = (TILE * layer.input_parts(), TILE * layer.output_parts());
        Self {
            a: vec![F::ZERO; inputs],
            d: vec![F::ZERO; outputs],
            da: vec![[0.0; PANEL]; inputs],
            pairs: [inputs, outputs].map(|len| vec![[0.0; PANEL]; len / F::VALUES]),
        }
    }
}

impl<F: Format> Task for Backward<'_, F> {
    type Output = Part;

    #[inline(always)]
    fn run<S: Set>(mut self, set: S) -> Part {
        let layer = self.0.layer;
        let inputs = layer.input_parts();
        let pixels = self.0.dz.len() / layer.input_len() * layer.output_pixels();
        let mut sums = Sums::new(inputs);
        let mut kernel = vec![0.0; layer.kernel_len()];
        let mut buffers = Buffers::<F>::new(layer);
        if layer.stride > 1 {
            self.0.dz.fill(F::ZERO);
        }
        for first in (0..pixels).step_by(TILE) {
            let count = TILE.min(pixels - first);
            let Buffers { a, d, da, pairs } = &mut buffers;
            activate::<S, F>(set, layer, self.0.norm, self.0.x, first, count, a);
            self.output_gradient(set, first, count, d);
            kernel_gradient::<S, F>(set, a, d, layer, count, pairs, &mut kernel);
            let da = &mut da[..count * inputs];
            product::<S, F>(set, d, self.0.turned, count, da, false);
            self.input_gradient(set, first, a, da, &mut sums);
        }
        Part {
            sums: sums.finish(),
            kernel,
        }
    }
}

impl<F: Format> Backward<'_, F> {
    /// The gradient of `count` output pixels from `first`, in panels.
    #[inline(always)]
    fn output_gradient<S: Set>(&mut self, set: S, first: usize, count: usize, d: &mut [F::Lanes]) {
        let outputs = self.0.layer.output_parts();
        let here = first * outputs..(first + count) * outputs;
        let from = self.0.start + here.start;
        if let OutputGradient::Junction {
            norm,
            dz,
            x,
            joined,
        } = self.0.dy
        {
            let branch = [&dz[from..], &x[from..]];
            let sum = &mut self.0.sum[here];
            put_together::<S, F>(set, (norm, *joined), branch, outputs, sum, d);
        } else {
            for p in 0..count {
                for part in 0..outputs {
                    let index = from + p * outputs + part;
                    for n in 0..registers::<S>() {
                        let dy = self.0.dy.at(set, index, part, n);
                        F::put(set, &mut d[part * TILE + p], n, dy);
                    }
                }
            }
        }
        end_pairs::<F>(d, count);
    }

    /// dz of the pixels under the output pixels from `first`, from the gradient `da` of their activations `a`.
    #[inline(always)]
    fn input_gradient<S: Set>(
        &mut self,
        set: S,
        first: usize,
        a: &[F::Lanes],
        da: &[Lanes],
        sums: &mut Sums,
    ) {
        let inputs = self.0.layer.input_parts();
        let mut part = 0;
        while part < inputs {
            match inputs - part {
                4.. => {
                    self.input_gradient_of_parts::<S, 4>(set, part, first, a, da, sums);
                    part += 4;
                }
                2.. => {
                    self.input_gradient_of_parts::<S, 2>(set, part, first, a, da, sums);
                    part += 2;
                }
                _ => {
                    self.input_gradient_of_parts::<S, 1>(set, part, first, a, da, sums);
                    part += 1;
                }
            }
        }
        sums.flush();
    }

    /// [`Self::input_gradient`] of the channels of `P` parts from `part` on.
    #[inline(always)]
    fn input_gradient_of_parts<S: Set, const P: usize>(
        &mut self,
        set: S,
        part: usize,
        first: usize,
        a: &[F::Lanes],
        da: &[Lanes],
        sums: &mut Sums,
    ) {
        let inputs = self.0.layer.input_parts();
        for n in 0..registers::<S>() {
            let mut running = [sums.at(set, part, n); P];
            let mut means = [set.zero(); P];
            for q in 0..P {
                running[q] = sums.at(set, part + q, n);
                means[q] = get(set, &self.0.norm.mean[part + q], n);
            }
            for (p, da) in da.chunks_exact(inputs).enumerate() {
                let at = input_pixel(self.0.layer, first + p) * inputs + part;
                let (x, dz) = (&self.0.x[at..at + P], &mut self.0.dz[at..at + P]);
                for q in 0..P {
                    let seen = [&a[(part + q) * TILE + p], &x[q]];
                    let da = &da[part + q];
                    running[q].store_gradient::<F>(set, n, means[q], seen, da, &mut dz[q]);
                }
            }
            for (q, running) in running.into_iter().enumerate() {
                sums.put(set, part + q, n, running);
            }
        }
    }
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
    let branch = dz.chunks_exact(outputs).zip(x.chunks_exact(outputs));
    let pixels = sum.chunks_exact_mut(outputs).zip(branch);
    for (p, (sum, (dz, x))) in pixels.enumerate() {
        for part in 0..outputs {
            for n in 0..registers::<S>() {
                let (dz, x) = (F::get(set, &dz[part], n), F::get(set, &x[part], n));
                let values = [dz, x, F::get(set, &sum[part], n)];
                let dy = norm.apply_at_junction(set, part, n, values, joined);
                F::put(set, &mut sum[part], n, dy);
                F::put(set, &mut d[part * TILE + p], n, dy);
            }
        }
    }
}

/// The input pixel under output pixel `index`, both counted over a task's images.
#[inline(always)]
pub fn input_pixel(layer: &Layer, index: usize) -> usize {
    if layer.stride == 1 {
        return index;
    }
    let (image, pixel) = (index / layer.output_pixels(), index % layer.output_pixels());
    let (i, j) = (pixel / layer.output_width(), pixel % layer.output_width());
    image * layer.input_pixels() + i * layer.stride * layer.width + j * layer.stride
}

/// The activations under `count` output pixels from `first`, in panels.
#[inline(always)]
fn activate<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    first: usize,
    count: usize,
    tile: &mut [F::Lanes],
) {
    let parts = layer.input_parts();
    for p in 0..count {
        let at = input_pixel(layer, first + p) * parts;
        for (part, x) in x[at..at + parts].iter().enumerate() {
            for n in 0..registers::<S>() {
                let a = norm.activate(set, part, n, F::get(set, x, n));
                F::put(set, &mut tile[part * TILE + p], n, a);
            }
        }
    }
    end_pairs::<F>(tile, count);
}

/// Where `count` pixels do not fill their last pair, zeros do.
#[inline(always)]
pub fn end_pairs<F: Format>(tile: &mut [F::Lanes], count: usize) {
    if !count.is_multiple_of(F::VALUES) {
        tile.iter_mut()
            .skip(count)
            .step_by(TILE)
            .for_each(|lanes| *lanes = F::ZERO);
    }
}

/// `out` `[count, columns]` = `tile` (panels) x `matrix` (packed), or that added to it.
#[inline(always)]
pub fn product<S: Set, F: Format>(
    set: S,
    tile: &[F::Lanes],
    matrix: &[f32],
    count: usize,
    out: &mut [Lanes],
    add: bool,
) {
    let depth = Depth {
        segments: tile.len() / TILE,
        length: F::ELEMENTS,
    };
    let panels = out.len() / count;
    let product = Product {
        left: Left {
            data: F::elements(tile),
            row: F::ELEMENTS,
            step: 1,
            segment: TILE * F::ELEMENTS,
        },
        right: Right {
            data: matrix,
            step: PANEL,
            segment: depth.length * PANEL,
            panel: depth.segments * depth.length * PANEL,
        },
        depth,
        rows: count,
        panels,
    };
    product.compute::<S, F>(set, out.as_flattened_mut(), panels * PANEL, add);
}

/// Adds aᵀ · d of a tile to `kernel` `[C, O]`.
#[inline(always)]
fn kernel_gradient<S: Set, F: Format>(
    set: S,
    a: &[F::Lanes],
    d: &[F::Lanes],
    layer: &Layer,
    count: usize,
    [a_pairs, d_pairs]: &mut [Vec<Lanes>; 2],
    kernel: &mut [f32],
) {
    let a = F::along_pixels(set, a, 1, 1, a_pairs);
    let d = F::along_pixels(set, d, 1, 1, d_pairs);
    let panel = TILE / F::VALUES * PANEL;
    for c in 0..layer.input_parts() {
        let product = Product {
            left: Left {
                data: &a[c * panel..][..panel],
                row: 1,
                step: PANEL,
                segment: 0,
            },
            right: Right {
                data: d,
                step: PANEL,
                segment: 0,
                panel,
            },
            depth: Depth {
                segments: 1,
                length: count.div_ceil(F::VALUES),
            },
            rows: PANEL,
            panels: layer.output_parts(),
        };
        let out = &mut kernel[c * PANEL * layer.outputs..];
        product.compute::<S, F>(set, out, layer.outputs, true);
    }
}
