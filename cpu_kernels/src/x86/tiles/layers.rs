//! Whole layers on tiles, emulated where the processor has none, against those of another instruction set.

use half::bf16;

use crate::isa::Isa;
use crate::x86::format::{Bf16, Half};
use crate::x86::layer::{Gradients, Layer, Output, OutputGradient};
use crate::x86::norm::Norm;
use crate::x86::{conv3x3, pointwise};

/// Images, input and output channels, side and stride.
type Sizes = ([usize; 3], [usize; 2], [usize; 2]);

/// Layers with images of odd sizes. Those of 3x3 without a stride are computed in Winograd's tiles of 2x2 on the other set,
/// where whole numbers are exact too.
const LAYERS: [Sizes; 6] = [
    ([3, 5, 7], [32, 48], [1, 1]),
    ([2, 33, 3], [80, 16], [1, 1]),
    ([2, 5, 7], [16, 32], [1, 2]),
    ([2, 7, 5], [48, 16], [3, 2]),
    ([19, 5, 2], [32, 48], [3, 1]),
    ([2, 5, 6], [128, 144], [3, 1]),
];

/// A layer with its inputs.
struct Case {
    layer: Layer,
    norm: Norm,
    x: Vec<f32>,
    kernel: Vec<f32>,
    skip: Vec<f32>,
    dy: Vec<f32>,
}

/// Results, in f32.
#[derive(PartialEq)]
struct Results {
    y: Vec<f32>,
    dz: Vec<f32>,
    kernel: Vec<f32>,
    /// The moments of y, and what the norm's weights get.
    sums: Vec<f32>,
}

/// Whole numbers from `-most` to `most`.
fn whole_numbers(seed: u32, count: usize, most: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % (2 * most + 1)) as f32 - most as f32
    };
    (0..count).map(|_| next()).collect()
}

fn stored(values: &[f32]) -> Vec<Half> {
    let lanes = values.as_chunks::<16>().0.iter();
    lanes
        .map(|lanes| Half(lanes.map(|v| bf16::from_f32(v).to_bits())))
        .collect()
}

fn values(lanes: &[Half]) -> Vec<f32> {
    let bits = lanes.iter().flat_map(|lanes| lanes.0);
    bits.map(|bits| bf16::from_bits(bits).to_f32()).collect()
}

impl Case {
    /// With arrays by `numbers`, from their number, their length and the largest value.
    fn new(
        ([images, height, width], [inputs, outputs], [side, stride]): Sizes,
        numbers: impl Fn(u32, usize, u32) -> Vec<f32>,
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
            format: kernel_contract::Format::Bf16,
        };
        let mean = numbers(1, inputs, 2);
        let beta: Vec<f32> = numbers(2, inputs, 2).iter().map(|b| b + 0.25).collect();
        let (variance, gamma) = (vec![0.25; inputs], vec![0.5; inputs]);
        Self {
            layer,
            norm: Norm::new(&mean, &variance, &gamma, &beta, 0.0),
            x: numbers(3, layer.input_values(), 3),
            kernel: numbers(4, layer.kernel_len(), 2),
            skip: numbers(5, layer.result_values(), 3),
            dy: numbers(6, layer.result_values(), 2),
        }
    }

    /// The same without the signs of what is multiplied and added: no activation has one.
    fn sizes(mut self) -> Self {
        for values in [&mut self.kernel, &mut self.skip, &mut self.dy] {
            values.iter_mut().for_each(|v| *v = v.abs());
        }
        self
    }

    fn on(&self, isa: Isa) -> Results {
        let Self { layer, norm, .. } = self;
        let (x, skip, dy) = (stored(&self.x), stored(&self.skip), stored(&self.dy));
        let nothing = |len| stored(&vec![f32::NAN; len]);
        let mut y = nothing(layer.result_values());
        let mut moments = vec![f32::NAN; 2 * layer.outputs];
        let mut out = Output::<Bf16> {
            y: &mut y,
            moments: &mut moments,
            chosen: &mut [],
        };
        let mut dz = nothing(layer.input_values());
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; layer.inputs], vec![f32::NAN; layer.inputs]);
        let mut kernel = vec![f32::NAN; layer.kernel_len()];
        let mut gradients = Gradients::<Bf16> {
            dy: &mut [],
            dz: &mut dz,
            dgamma: &mut dgamma,
            dbeta: &mut dbeta,
            kernel: &mut kernel,
        };
        let (of_result, weights, skip) =
            (OutputGradient::Plain(&dy), &self.kernel, Some(&skip[..]));
        if layer.side == 1 {
            pointwise::forward(isa, layer, norm, &x, weights, skip, &mut out);
            pointwise::backward(isa, layer, norm, &x, weights, &of_result, &mut gradients);
        } else {
            conv3x3::forward(isa, layer, norm, &x, weights, skip, &mut out);
            conv3x3::backward(isa, layer, norm, &x, weights, &of_result, &mut gradients);
        }
        Results {
            y: values(&y),
            dz: values(&dz),
            kernel,
            sums: [moments, dgamma, dbeta].concat(),
        }
    }
}

/// The best set without tiles.
fn another_set() -> Isa {
    Isa::of_processor().min(Isa::Avx512Bf16)
}

/// Whether there are kernels to run any layer with.
fn has_kernels() -> bool {
    let any = Isa::Avx2.is_present();
    if !any {
        println!("skipped: this processor has no AVX2");
    }
    any
}

#[test]
fn where_sums_are_exact_layers_are_those_of_another_set() {
    if !has_kernels() {
        return;
    }
    for sizes in LAYERS {
        let case = Case::new(sizes, whole_numbers);
        let (on_tiles, expected) = (case.on(Isa::Amx), case.on(another_set()));
        assert!(on_tiles.y == expected.y, "y of {sizes:?}");
        assert!(on_tiles.dz == expected.dz, "dz of {sizes:?}");
        assert!(on_tiles.kernel == expected.kernel, "kernel of {sizes:?}");
        assert!(on_tiles.sums == expected.sums, "sums of {sizes:?}");
        assert!(expected.kernel.iter().any(|v| *v != 0.0));
    }
}

/// Numbers in [-1, 1) that fill the digits of an f32.
fn noise(seed: u32, count: usize, _most: u32) -> Vec<f32> {
    let whole = whole_numbers(seed, count, 0x7fff).into_iter();
    let fine = whole_numbers(seed + 100, count, 0x7fff);
    let both = whole.zip(fine);
    both.map(|(a, b)| (a + b / 32768.0) / 32768.0).collect()
}

/// Both sets multiply the same values of bf16, exactly, and take the sums in orders of their own. A term goes through one
/// rounding for each term of its sum at most, and on tiles through two more for each pair.
#[test]
fn on_other_numbers_they_differ_by_the_roundings_of_their_sums() {
    if !has_kernels() {
        return;
    }
    // Where the other set transforms tiles of pixels, its terms are others.
    for sizes in LAYERS.iter().filter(|(.., shape)| *shape != [3, 1]) {
        let case = Case::new(*sizes, noise);
        let (on_tiles, other) = (case.on(Isa::Amx), case.on(another_set()));
        let terms = Case::new(*sizes, noise).sizes().on(another_set());
        let layer = &case.layer;
        let taps = layer.side * layer.side;
        let pixels = layer.images * layer.output_pixels();
        // The pixels, and 16 tasks; not stored in bf16.
        let of_kernel = [&on_tiles.kernel, &other.kernel, &terms.kernel];
        check("kernel", of_kernel, pixels + 1 + 16, 0.0);
        let unit = 2f32.powi(-7);
        let of_y = [&on_tiles.y, &other.y, &terms.y];
        check("y", of_y, taps * layer.inputs + 1, unit);
        let of_dz = [&on_tiles.dz, &other.dz, &terms.dz];
        check("dz", of_dz, taps * layer.outputs, unit);
        assert!(on_tiles.kernel != other.kernel, "no order of sums differs");
    }
}

/// Checks that two results of sums of `count` terms differ by what rounding allows, where each is stored to a `unit` of its
/// own size.
fn check(name: &str, [got, other, terms]: [&Vec<f32>; 3], count: usize, unit: f32) {
    assert_eq!(got.len(), other.len(), "{name}");
    // Of both; the sum of the terms' sizes is itself rounded.
    let share = 3.0 * count as f32 * 2f32.powi(-24) * 1.02;
    for ((got, other), terms) in got.iter().zip(other).zip(terms) {
        let bound = share * terms + unit * got.abs().max(other.abs());
        let apart = (got - other).abs();
        assert!(
            apart <= bound,
            "{name}: {got} and {other}, terms of {terms}"
        );
    }
}
