//! Layers that are computed in tiles, on numbers that are rounded: how far from f64 they may be.
//!
//! docs/numerics.md derives the bounds: so many roundings of a unit of 2^-24 each, and in bf16 one of 2^-8 for each factor,
//! of the sum of the sizes of all terms, on their way through Winograd's transforms.

use super::bound::{Bound, exact_in};
use super::common::{noise, sets};
use super::{Bf16, Case, F32, Isa, OutputGradient, PlainNorm, Stored};

/// Winograd's matrices Bᵀ, G and Aᵀ, without their signs.
const INPUTS: [[f64; 4]; 4] = [
    [1.0, 0.0, 1.0, 0.0],
    [0.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, 0.0, 1.0],
];
const WEIGHTS: [[f64; 3]; 4] = [
    [1.0, 0.0, 0.0],
    [0.5, 0.5, 0.5],
    [0.5, 0.5, 0.5],
    [0.0, 0.0, 1.0],
];
const OUTPUTS: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]];

type Square<const N: usize> = [[f64; N]; N];

/// m x mᵀ.
fn around<const N: usize, const M: usize>(m: &[[f64; N]; M], x: &Square<N>) -> Square<M> {
    let entry = |i: usize, j: usize| {
        let terms = (0..N).flat_map(|a| (0..N).map(move |b| (a, b)));
        terms.map(|(a, b)| m[i][a] * x[a][b] * m[j][b]).sum()
    };
    std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)))
}

fn turned<const N: usize, const M: usize>(m: &[[f64; N]; M]) -> [[f64; M]; N] {
    std::array::from_fn(|a| std::array::from_fn(|i| m[i][a]))
}

/// Images `[n, h, w, C]`.
struct Images<'a> {
    sizes: [usize; 3],
    channels: usize,
    values: &'a [f64],
}

impl Images<'_> {
    /// The image, the first row and the first column of each tile of 2x2.
    fn tiles(&self) -> Vec<[usize; 3]> {
        let [n, height, width] = self.sizes;
        let of_image = |image| {
            let rows = (0..height).step_by(2);
            rows.flat_map(move |i| (0..width).step_by(2).map(move |j| [image, i, j]))
        };
        (0..n).flat_map(of_image).collect()
    }

    /// What the values of all channels are without their signs in a square of N x N from `border` pixels before a tile, 0
    /// outside the image.
    fn squares<const N: usize>(&self, [image, i, j]: [usize; 3], border: usize) -> Vec<Square<N>> {
        let [_, height, width] = self.sizes;
        let value = |a: usize, b: usize, c: usize| {
            let (y, x) = ((i + a).checked_sub(border), (j + b).checked_sub(border));
            let (y, x) = (y.unwrap_or(height), x.unwrap_or(width));
            if y >= height || x >= width {
                return 0.0;
            }
            self.values[((image * height + y) * width + x) * self.channels + c].abs()
        };
        let of_channel = |c| std::array::from_fn(|a| std::array::from_fn(|b| value(a, b, c)));
        (0..self.channels).map(of_channel).collect()
    }

    /// For each result of a convolution, the sum of its terms without their signs. `weight` is that of a tap, an input
    /// channel and one of `outputs` output channels.
    fn convolved(&self, outputs: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<f64> {
        let [n, height, width] = self.sizes;
        let size = |a: usize, b: usize, c, o| f64::from(weight(3 * a + b, c, o).abs());
        let transformed = |index: usize| {
            let (c, o) = (index / outputs, index % outputs);
            let taps = std::array::from_fn(|a| std::array::from_fn(|b| size(a, b, c, o)));
            around(&WEIGHTS, &taps)
        };
        let weights: Vec<Square<4>> = (0..self.channels * outputs).map(transformed).collect();
        let mut sums = vec![0.0; n * height * width * outputs];
        for tile in self.tiles() {
            let [image, i, j] = tile;
            let pixels = self.squares::<4>(tile, 1);
            let pixels: Vec<Square<4>> = pixels.iter().map(|d| around(&INPUTS, d)).collect();
            for o in 0..outputs {
                let products = pixels.iter().zip(weights.iter().skip(o).step_by(outputs));
                let results = around(&OUTPUTS, &sum_of_products(products));
                for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    if i + a < height && j + b < width {
                        let pixel = (image * height + i + a) * width + j + b;
                        sums[pixel * outputs + o] = results[a][b];
                    }
                }
            }
        }
        sums
    }

    /// For each weight `[3, 3, C, O]` of a kernel, the sum of the terms of its gradient without their signs, from the
    /// gradient `d` of the results.
    fn kernel_gradient(&self, d: &Images) -> Vec<f64> {
        let (inputs, outputs) = (self.channels, d.channels);
        let mut products = vec![[[0.0; 4]; 4]; inputs * outputs];
        for tile in self.tiles() {
            let pixels = self.squares::<4>(tile, 1);
            let pixels: Vec<Square<4>> = pixels.iter().map(|x| around(&INPUTS, x)).collect();
            let gradients = d.squares::<2>(tile, 0);
            let from_outputs = turned(&OUTPUTS);
            let gradients = gradients.iter().map(|e| around(&from_outputs, e));
            let gradients: Vec<Square<4>> = gradients.collect();
            for (index, sum) in products.iter_mut().enumerate() {
                let pair = (&pixels[index / outputs], &gradients[index % outputs]);
                add_product(sum, pair);
            }
        }
        let mut sums = vec![0.0; 9 * inputs * outputs];
        for (index, products) in products.iter().enumerate() {
            let taps = around(&turned(&WEIGHTS), products);
            for (tap, sum) in taps.iter().flatten().enumerate() {
                sums[tap * inputs * outputs + index] = *sum;
            }
        }
        sums
    }
}

fn sum_of_products<'a>(pairs: impl Iterator<Item = (&'a Square<4>, &'a Square<4>)>) -> Square<4> {
    let mut sum = [[0.0; 4]; 4];
    pairs.for_each(|pair| add_product(&mut sum, pair));
    sum
}

/// Adds the products place by place.
fn add_product(sum: &mut Square<4>, (a, b): (&Square<4>, &Square<4>)) {
    let factors = a.iter().flatten().zip(b.iter().flatten());
    for (sum, (a, b)) in sum.iter_mut().flatten().zip(factors) {
        *sum += a * b;
    }
}

/// A layer on noise, whose images the format holds. Its normalisation is exact: the activation is x where it is above 0.
fn noisy_case<F: Stored>(images: [usize; 3], [inputs, outputs]: [usize; 2]) -> Case {
    let case = Case::new(images, [inputs, outputs], [3, 1]);
    let (x, kernel, dy) = (case.x.len(), case.kernel.len(), case.dy.len());
    Case {
        norm: PlainNorm {
            mean: vec![0.0; inputs],
            variance: vec![0.25; inputs],
            gamma: vec![0.5; inputs],
            beta: vec![0.0; inputs],
        },
        x: exact_in::<F>(&noise(1, x)),
        kernel: noise(2, kernel),
        skip: exact_in::<F>(&noise(3, dy)),
        dy: exact_in::<F>(&noise(4, dy)),
        ..case
    }
}

/// Checks a layer on `images`, whose tasks have so many `tiles`, which are multiplied in so many `runs`.
fn check<F: Stored>([inputs, outputs]: [usize; 2], images: [usize; 3], tiles: usize, runs: usize) {
    let case = noisy_case::<F>(images, [inputs, outputs]);
    let (a, dy) = (case.activations(), super::in_f64(&case.dy));
    let of = |channels, values| Images {
        sizes: images,
        channels,
        values,
    };
    let (a, d) = (of(inputs, &a), of(outputs, &dy));
    let (kernel, skip) = (&case.kernel, &case.skip);
    let mut y_terms = a.convolved(outputs, |tap, c, o| {
        kernel[(tap * inputs + c) * outputs + o]
    });
    for (terms, skip) in y_terms.iter_mut().zip(skip) {
        *terms += f64::from(skip.abs());
    }
    let dz_terms = d.convolved(inputs, |tap, o, c| {
        kernel[((8 - tap) * inputs + c) * outputs + o]
    });
    let kernel_terms = a.kernel_gradient(&d);
    let y = case.forward();
    let [dz, _, _, dkernel] = case.backward::<F32>(&dy);
    let mut on_first_set = None;
    for isa in sets() {
        let name = |result| format!("{isa}, {:?}, {result}", F::FORMAT);
        let (got, ..) = case.forward_on::<F>(isa);
        Bound::new::<F>(inputs + 11, 2)
            .stored()
            .check(&name("y"), &got, &y, &y_terms);
        let dy = F::lanes(&case.dy);
        let [got_dz, _, _, got_kernel] = case.backward_on::<F>(isa, &OutputGradient::Plain(&dy));
        Bound::new::<F>(outputs + 10, 2)
            .stored()
            .check(&name("dz"), &got_dz, &dz, &dz_terms);
        let bound = Bound::new::<F>(tiles + runs + 24, 2);
        bound.check(&name("kernel"), &got_kernel, &dkernel, &kernel_terms);
        // AMX sums pairs of bf16 in another order.
        if F::VALUES == 1 || isa != Isa::Amx {
            let results = [got, got_dz, got_kernel];
            let first = on_first_set.get_or_insert_with(|| results.clone());
            assert!(results == *first, "{isa} has bits of its own");
        }
    }
}

/// Channels of wide layers.
const WIDE: [usize; 2] = [128, 144];

#[test]
fn layers_in_tiles_are_as_near_to_f64_as_the_roundings_of_tiles_allow() {
    check::<F32>(WIDE, [2, 8, 8], 16, 1);
    check::<F32>(WIDE, [1, 17, 17], 81, 2);
    check::<F32>(WIDE, [3, 5, 7], 12, 1);
    check::<F32>([16, 48], [2, 8, 8], 16, 1);
    check::<F32>([48, 16], [1, 17, 17], 81, 3);
    check::<F32>([64, 80], [19, 4, 4], 8, 1);
    check::<F32>([32, 32], [3, 5, 7], 12, 1);
}

#[test]
fn in_bf16_they_are_as_near_as_one_more_rounding_of_each_factor_allows() {
    check::<Bf16>(WIDE, [2, 8, 8], 16, 1);
    check::<Bf16>(WIDE, [1, 23, 23], 144, 2);
    check::<Bf16>(WIDE, [3, 5, 7], 12, 1);
    check::<Bf16>([16, 48], [2, 8, 8], 16, 1);
    check::<Bf16>([48, 16], [1, 17, 17], 81, 2);
    check::<Bf16>([64, 80], [19, 4, 4], 8, 1);
    check::<Bf16>([32, 32], [3, 5, 7], 12, 1);
}
