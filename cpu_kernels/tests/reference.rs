//! Each kernel on each instruction set of this processor and in each format, against the same layer in plain loops of
//! f64.
//!
//! The images, the kernels and the gradients are small whole numbers, and the normalisations multiply by powers of two:
//! every factor is exact in bf16, every product and every sum in f32. That holds in tiles of 2x2 results too: weights become
//! quarters of at most 18, sums of four activations quarters of at most 196. So whatever the order of the sums, the results
//! must be equal, but for the rounding of those that are stored in bf16. What becomes of other numbers is in
//! `reference/direct.rs`, and in tiles in `reference/tiles.rs`. Tiles of 4x4 results round whole numbers too.

#![cfg(target_arch = "x86_64")]

#[path = "reference/behind.rs"]
mod behind;
#[path = "reference/bound.rs"]
mod bound;
mod common;
#[path = "reference/direct.rs"]
mod direct;
#[path = "reference/pooled.rs"]
mod pooled;
#[path = "reference/tiles.rs"]
mod tiles;
#[path = "reference/wrong_values.rs"]
mod wrong_values;

use cpu_kernels::format::{Bf16, F32, Format, Half, Lanes};
use cpu_kernels::layer::{Gradients, Layer, Output, OutputGradient};
use cpu_kernels::norm::{self, Norm, NormGradient};
use cpu_kernels::{Isa, conv3x3, pointwise};
use kernel_contract as contract;

use common::sets;

/// Pixels that a kernel of 1x1 takes at a time.
const TILE: usize = 96;

/// Whole numbers from `-most` to `most`, different for each `seed`.
fn whole_numbers(seed: u32, count: usize, most: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % (2 * most + 1)) as f32 - most as f32
    };
    (0..count).map(|_| next()).collect()
}

/// A format, and how a test writes and reads it.
trait Stored: Format {
    const FORMAT: contract::Format;

    fn of(lanes: &Lanes) -> Self::Lanes;
    fn values(lanes: &Self::Lanes) -> Lanes;

    /// What is stored for `x`.
    fn rounded(x: f64) -> f64;

    fn lanes(values: &[f32]) -> Vec<Self::Lanes> {
        norm::lanes(values).iter().map(Self::of).collect()
    }

    fn in_f64(lanes: &[Self::Lanes]) -> Vec<f64> {
        let values = lanes.iter().flat_map(Self::values);
        values.map(f64::from).collect()
    }
}

impl Stored for F32 {
    const FORMAT: contract::Format = contract::Format::F32;

    fn of(lanes: &Lanes) -> Lanes {
        *lanes
    }

    fn values(lanes: &Lanes) -> Lanes {
        *lanes
    }

    fn rounded(x: f64) -> f64 {
        x
    }
}

impl Stored for Bf16 {
    const FORMAT: contract::Format = contract::Format::Bf16;

    fn of(lanes: &Lanes) -> Half {
        Half(lanes.map(|x| (x.to_bits() >> 16) as u16))
    }

    fn values(lanes: &Half) -> Lanes {
        lanes.0.map(|x| f32::from_bits(u32::from(x) << 16))
    }

    /// To eight binary digits, the even one of two.
    fn rounded(x: f64) -> f64 {
        if x == 0.0 || !x.is_finite() {
            return x;
        }
        let unit = 2f64.powi(x.abs().log2().floor() as i32 - 7);
        (x / unit).round_ties_even() * unit
    }
}

/// A normalisation by whole numbers and powers of two.
#[derive(Clone)]
struct PlainNorm {
    mean: Vec<f32>,
    /// A quarter: multiplied by 2.
    variance: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl PlainNorm {
    fn new(seed: u32, channels: usize) -> Self {
        let powers = whole_numbers(seed + 2, channels, 1);
        Self {
            mean: whole_numbers(seed, channels, 2),
            variance: vec![0.25; channels],
            gamma: powers.iter().map(|p| 0.5 * p.exp2()).collect(),
            // Off what the rest can be: no activation is 0, where ReLU has a kink.
            beta: whole_numbers(seed + 1, channels, 2)
                .iter()
                .map(|b| b + 0.25)
                .collect(),
        }
    }

    fn norm(&self) -> Norm {
        Norm::new(&self.mean, &self.variance, &self.gamma, &self.beta, 0.0)
    }

    fn activate(&self, c: usize, x: f32) -> f64 {
        let z = f64::from(x - self.mean[c]) * 2.0 * f64::from(self.gamma[c]);
        (z + f64::from(self.beta[c])).max(0.0)
    }
}

/// Calls `each` with every product of the convolution: indices of an input pixel, of an output pixel, both in the whole
/// batch, and of a tap of the kernel.
fn taps(layer: &Layer, mut each: impl FnMut(usize, usize, usize)) {
    // The smaller half of what the last kernel needs beyond the image comes before it.
    let border = |size: usize| {
        let last = (size.div_ceil(layer.stride) - 1) * layer.stride + layer.side;
        last.saturating_sub(size) / 2
    };
    for n in 0..layer.images {
        for i in 0..layer.output_height() {
            for j in 0..layer.output_width() {
                for a in 0..layer.side {
                    for b in 0..layer.side {
                        let (y, x) = (i * layer.stride + a, j * layer.stride + b);
                        let y = y.checked_sub(border(layer.height));
                        let x = x.checked_sub(border(layer.width));
                        let (Some(y), Some(x)) = (y, x) else {
                            continue;
                        };
                        if y < layer.height && x < layer.width {
                            let input = (n * layer.height + y) * layer.width + x;
                            let output = (n * layer.output_height() + i) * layer.output_width() + j;
                            each(input, output, a * layer.side + b);
                        }
                    }
                }
            }
        }
    }
}

/// A layer with its inputs.
#[derive(Clone)]
struct Case {
    layer: Layer,
    norm: PlainNorm,
    x: Vec<f32>,
    kernel: Vec<f32>,
    skip: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(
        [images, height, width]: [usize; 3],
        [inputs, outputs]: [usize; 2],
        [side, stride]: [usize; 2],
    ) -> Self {
        let layer = Layer {
            images,
            height,
            width,
            inputs,
            outputs,
            side,
            stride,
            pools: false,
            format: contract::Format::F32,
        };
        let output_values = images * layer.output_pixels() * outputs;
        Self {
            layer,
            norm: PlainNorm::new(1, inputs),
            x: whole_numbers(4, layer.input_values(), 3),
            kernel: whole_numbers(5, layer.kernel_len(), 2),
            skip: whole_numbers(6, output_values, 3),
            dy: whole_numbers(7, output_values, 2),
        }
    }

    fn activations(&self) -> Vec<f64> {
        let channels = self.layer.inputs;
        let activate = |(index, x): (usize, &f32)| self.norm.activate(index % channels, *x);
        self.x.iter().enumerate().map(activate).collect()
    }

    /// y in f64.
    fn forward(&self) -> Vec<f64> {
        let Layer {
            inputs, outputs, ..
        } = self.layer;
        let a = self.activations();
        let mut y = in_f64(&self.skip);
        taps(&self.layer, |input, output, tap| {
            for c in 0..inputs {
                for o in 0..outputs {
                    let weight = f64::from(self.kernel[(tap * inputs + c) * outputs + o]);
                    y[output * outputs + o] += a[input * inputs + c] * weight;
                }
            }
        });
        y
    }

    /// dz, dgamma, dbeta and the kernel's gradient in f64, from the gradient `dy` of y. The sums are of dz as it is stored.
    fn backward<F: Stored>(&self, dy: &[f64]) -> [Vec<f64>; 4] {
        let Layer {
            inputs, outputs, ..
        } = self.layer;
        let a = self.activations();
        let mut dz = vec![0.0; a.len()];
        let mut dkernel = vec![0.0; self.kernel.len()];
        taps(&self.layer, |input, output, tap| {
            for c in 0..inputs {
                for o in 0..outputs {
                    let at = (tap * inputs + c) * outputs + o;
                    dz[input * inputs + c] += dy[output * outputs + o] * f64::from(self.kernel[at]);
                    dkernel[at] += dy[output * outputs + o] * a[input * inputs + c];
                }
            }
        });
        let (mut dgamma, mut dbeta) = (vec![0.0; inputs], vec![0.0; inputs]);
        for (index, dz) in dz.iter_mut().enumerate() {
            let c = index % inputs;
            *dz = if a[index] > 0.0 { F::rounded(*dz) } else { 0.0 };
            dbeta[c] += *dz;
            dgamma[c] += *dz * f64::from(self.x[index] - self.norm.mean[c]) * 2.0;
        }
        [dz, dgamma, dbeta, dkernel]
    }

    /// Whether all sums of whole numbers are exact on `isa`: not in Winograd's tiles of 4x4 results, which AMX does without in
    /// bf16.
    fn is_exact_on<F: Stored>(&self, isa: Isa) -> bool {
        !self.is_in_large_tiles() || (F::VALUES > 1 && isa == Isa::Amx)
    }

    /// Whether it is computed in tiles of 4x4 results, but on AMX in bf16.
    fn is_in_large_tiles(&self) -> bool {
        let layer = &self.layer;
        let tiles = |side: usize| layer.height.div_ceil(side) * layer.width.div_ceil(side);
        let has_fewer_products = 36 * tiles(4) < 16 * tiles(2);
        let is_narrow = layer.inputs * layer.outputs <= 160 * 160;
        let has_many_tiles = layer.images.div_ceil(16) * tiles(4) >= 16;
        let is_in_tiles = layer.side == 3 && layer.stride == 1;
        is_in_tiles && has_fewer_products && (is_narrow || has_many_tiles)
    }

    fn layer_in<F: Stored>(&self) -> Layer {
        Layer {
            format: F::FORMAT,
            ..self.layer
        }
    }

    /// y, the mean and variance of its channels, and what pooling chose, by the kernel.
    fn forward_on<F: Stored>(&self, isa: Isa) -> (Vec<f64>, Vec<f32>, Vec<f64>) {
        let (layer, norm) = (&self.layer_in::<F>(), self.norm.norm());
        let nothing = vec![f32::NAN; layer.result_values()];
        let mut y = F::lanes(&nothing);
        let mut chosen = if layer.pools {
            F::lanes(&nothing)
        } else {
            Vec::new()
        };
        let mut moments = vec![f32::NAN; 2 * layer.outputs];
        let mut out = Output::<F> {
            y: &mut y,
            moments: &mut moments,
            chosen: &mut chosen,
        };
        let x = &F::lanes(&self.x);
        let forward = match layer.side {
            1 => pointwise::forward::<F>,
            _ => conv3x3::forward::<F>,
        };
        let skip = F::lanes(&self.skip);
        let skip = (!layer.pools).then_some(&skip[..]);
        forward(isa, layer, &norm, x, &self.kernel, skip, &mut out);
        (F::in_f64(&y), moments, F::in_f64(&chosen))
    }

    /// dz, dgamma, dbeta and the kernel's gradient, by the kernel.
    fn backward_on<F: Stored>(&self, isa: Isa, dy: &OutputGradient<F>) -> [Vec<f64>; 4] {
        self.backward_from(isa, dy, &mut [])
    }

    /// The same from a junction, where `sum` becomes what is added to it.
    fn backward_from<F: Stored>(
        &self,
        isa: Isa,
        dy: &OutputGradient<F>,
        sum: &mut [F::Lanes],
    ) -> [Vec<f64>; 4] {
        let (layer, norm) = (&self.layer_in::<F>(), self.norm.norm());
        let nothing = |len| vec![f32::NAN; len];
        let mut dz = F::lanes(&nothing(self.x.len()));
        let (mut dgamma, mut dbeta) = (nothing(layer.inputs), nothing(layer.inputs));
        let mut kernel = nothing(layer.kernel_len());
        let mut out = Gradients::<F> {
            dy: sum,
            dz: &mut dz,
            dgamma: &mut dgamma,
            dbeta: &mut dbeta,
            kernel: &mut kernel,
        };
        let x = &F::lanes(&self.x);
        if layer.side == 1 {
            pointwise::backward(isa, layer, &norm, x, &self.kernel, dy, &mut out);
        } else {
            conv3x3::backward(isa, layer, &norm, x, &self.kernel, dy, &mut out);
        }
        let [dgamma, dbeta, kernel] = [dgamma, dbeta, kernel].map(|values| in_f64(&values));
        [F::in_f64(&dz), dgamma, dbeta, kernel]
    }
}

/// Layers whose sizes divide nothing evenly, and those of the networks.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for images in [[3, 5, 7], [2, 33, 3], [19, 4, 4], [1, 1, 1], [2, 8, 32]] {
        for channels in [[16, 48], [32, 16], [48, 80]] {
            for shape in [[1, 1], [1, 2], [3, 1], [3, 2], [3, 3], [3, 5]] {
                cases.push(Case::new(images, channels, shape));
            }
        }
    }
    // Computed in tiles, those with few pixels along a side in tiles of 2x2: odd sides, one row, one column, one pixel; in both
    // sizes more tiles in an image than are multiplied at a time, and more images in a task.
    for images in [
        [3, 5, 7],
        [2, 8, 8],
        [19, 4, 4],
        [1, 17, 17],
        [2, 1, 6],
        [2, 7, 1],
        [1, 2, 270],
        [5, 2, 2],
        [1040, 1, 1],
    ] {
        cases.push(Case::new(images, [128, 144], [3, 1]));
        cases.push(Case::new(images, [32, 48], [3, 1]));
    }
    for channels in [[144, 128], [32, 128], [128, 48]] {
        cases.push(Case::new([2, 6, 6], channels, [3, 1]));
    }
    cases
}

/// The sets on which the results of `case` are exact.
fn exact_sets<F: Stored>(case: &Case) -> impl Iterator<Item = Isa> {
    let sets = sets().into_iter();
    sets.filter(|isa| case.is_exact_on::<F>(*isa))
}

fn in_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn forwards<F: Stored>() {
    for case in cases() {
        let expected: Vec<f64> = case.forward().into_iter().map(F::rounded).collect();
        for isa in exact_sets::<F>(&case) {
            let (y, moments, _) = case.forward_on::<F>(isa);
            assert_eq!(y, expected, "{isa}: {:?}", case.layer);
            check_moments(&expected, &moments, case.layer.output_pixels().max(TILE));
        }
    }
}

#[test]
fn forwards_every_result_is_that_of_plain_loops() {
    forwards::<F32>();
    forwards::<Bf16>();
}

/// Whether `moments` are the mean and the variance of each channel of `y`. The sums of `pixels` differences from one of
/// the values are taken in f32, all others in f64: docs/numerics.md derives how far they may be off.
fn check_moments(y: &[f64], moments: &[f32], pixels: usize) {
    let channels = moments.len() / 2;
    let count = (y.len() / channels) as f64;
    for c in 0..channels {
        let values = y.iter().skip(c).step_by(channels).copied();
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.clone().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let range = values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min);
        let unit = (pixels as f64 + 2.0) * f64::from(2f32.powi(-24));
        let check = |got: f32, expected: f64, bound: f64| {
            let apart = (f64::from(got) - expected).abs();
            assert!(
                apart <= bound,
                "{got} for {expected}: off by {apart:e}, not {bound:e}"
            );
        };
        check(moments[c], mean, unit * range.max(mean.abs()));
        check(moments[channels + c], variance, 3.0 * unit * range * range);
    }
}

fn backwards<F: Stored>() {
    for case in cases() {
        let expected = case.backward::<F>(&in_f64(&case.dy));
        for isa in exact_sets::<F>(&case) {
            let got = case.backward_on::<F>(isa, &OutputGradient::Plain(&F::lanes(&case.dy)));
            for (index, name) in ["dz", "dgamma", "dbeta", "kernel"].iter().enumerate() {
                let (got, expected) = (&got[index], &expected[index]);
                assert_eq!(got, expected, "{isa}: {name} of {:?}", case.layer);
            }
        }
    }
}

#[test]
fn backwards_every_gradient_is_that_of_plain_loops() {
    backwards::<F32>();
    backwards::<Bf16>();
}
