//! Layers that are computed in tiles, on numbers that are rounded: how far from f64 they may be.
//!
//! docs/numerics.md derives the bounds: so many roundings of a unit of 2^-24 each, and in bf16 one of 2^-8 for each factor,
//! of the sum of the sizes of all terms, on their way through Winograd's transforms.

use super::bound::{Bound, exact_in};
use super::common::{noise, sets};
use super::{Bf16, Case, F32, Isa, OutputGradient, PlainNorm, Stored};

type Matrix = Vec<Vec<f64>>;

/// Winograd's matrices without their signs, for tiles of some size.
struct Winograd {
    /// Results along a side of a tile.
    results: usize,
    /// Bᵀ.
    inputs: Matrix,
    /// G.
    weights: Matrix,
    /// Aᵀ.
    outputs: Matrix,
}

/// F(2x2, 3x3).
fn small() -> Winograd {
    let matrix = |rows: &[&[f64]]| rows.iter().map(|row| row.to_vec()).collect();
    Winograd {
        results: 2,
        inputs: matrix(&[
            &[1.0, 0.0, 1.0, 0.0],
            &[0.0, 1.0, 1.0, 0.0],
            &[0.0, 1.0, 1.0, 0.0],
            &[0.0, 1.0, 0.0, 1.0],
        ]),
        weights: matrix(&[
            &[1.0, 0.0, 0.0],
            &[0.5, 0.5, 0.5],
            &[0.5, 0.5, 0.5],
            &[0.0, 0.0, 1.0],
        ]),
        outputs: matrix(&[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, 1.0, 1.0]]),
    }
}

/// F(4x4, 3x3) with the points 0, ±5/8, ±3/2 and ∞, from their definition: a polynomial of degree 5 is put together from its
/// values at the points, by Lagrange. Aᵀ and G take the powers of the points, and Bᵀ has the coefficients of the product of all
/// x − p but one.
fn large() -> Winograd {
    let points = [0.0, 0.625, -0.625, 1.5, -1.5];
    let times = |polynomial: &[f64], p: f64| -> Vec<f64> {
        let coefficient = |k: usize| polynomial.get(k).copied().unwrap_or(0.0);
        let higher = |k: usize| k.checked_sub(1).map_or(0.0, coefficient);
        (0..=polynomial.len())
            .map(|k| higher(k) - p * coefficient(k))
            .collect()
    };
    let product = |without: Option<usize>| {
        let others = points.iter().enumerate();
        let others = others.filter(|(index, _)| Some(*index) != without);
        others.fold(vec![1.0], |product, (_, p)| times(&product, *p))
    };
    let (mut inputs, mut weights) = (Matrix::new(), Matrix::new());
    for (index, p) in points.into_iter().enumerate() {
        let mut row = product(Some(index));
        let at_point = row.iter().rev().fold(0.0, |value, c| value * p + c);
        row.push(0.0);
        inputs.push(row);
        weights.push((0..3).map(|power| p.powi(power) / at_point).collect());
    }
    inputs.push(product(None));
    weights.push(vec![0.0, 0.0, 1.0]);
    let powers = |power: i32| {
        let of_points = points.into_iter().map(|p| p.powi(power));
        of_points.chain([f64::from(power == 3)]).collect()
    };
    let mut winograd = Winograd {
        results: 4,
        inputs,
        weights,
        outputs: (0..4).map(powers).collect(),
    };
    let Winograd {
        inputs,
        weights,
        outputs,
        ..
    } = &mut winograd;
    for value in [inputs, weights, outputs].into_iter().flatten().flatten() {
        *value = value.abs();
    }
    winograd
}

/// m x mᵀ.
fn around(m: &Matrix, x: &Matrix) -> Matrix {
    let times = |a: &Matrix, b: &Matrix| -> Matrix {
        let dot = |row: &[f64], other: &[f64]| row.iter().zip(other).map(|(a, b)| a * b).sum();
        let of_row = |row: &Vec<f64>| b.iter().map(|other| dot(row, other)).collect();
        a.iter().map(of_row).collect()
    };
    times(&times(m, &turned(x)), m)
}

fn turned(m: &Matrix) -> Matrix {
    let column = |a: usize| m.iter().map(|row| row[a]).collect();
    (0..m[0].len()).map(column).collect()
}

/// Images `[n, h, w, C]`.
struct Images<'a> {
    sizes: [usize; 3],
    channels: usize,
    values: &'a [f64],
}

impl Images<'_> {
    /// The image, the first row and the first column of each tile with so many `results` along a side.
    fn tiles(&self, results: usize) -> Vec<[usize; 3]> {
        let [n, height, width] = self.sizes;
        let of_image = |image| {
            let rows = (0..height).step_by(results);
            rows.flat_map(move |i| (0..width).step_by(results).map(move |j| [image, i, j]))
        };
        (0..n).flat_map(of_image).collect()
    }

    /// What the values of all channels are without their signs in a square of `side` from `border` pixels before a tile, 0
    /// outside the image.
    fn squares(&self, side: usize, [image, i, j]: [usize; 3], border: usize) -> Vec<Matrix> {
        let [_, height, width] = self.sizes;
        let value = |a: usize, b: usize, c: usize| {
            let (y, x) = ((i + a).checked_sub(border), (j + b).checked_sub(border));
            let (y, x) = (y.unwrap_or(height), x.unwrap_or(width));
            if y >= height || x >= width {
                return 0.0;
            }
            self.values[((image * height + y) * width + x) * self.channels + c].abs()
        };
        let row = |a: usize, c: usize| (0..side).map(|b| value(a, b, c)).collect();
        let of_channel = |c: usize| (0..side).map(|a| row(a, c)).collect();
        (0..self.channels).map(of_channel).collect()
    }

    /// The pixels of a tile, transformed.
    fn transformed(&self, winograd: &Winograd, tile: [usize; 3]) -> Vec<Matrix> {
        let pixels = self.squares(winograd.results + 2, tile, 1);
        pixels.iter().map(|d| around(&winograd.inputs, d)).collect()
    }

    /// For each result of a convolution, the sum of its terms without their signs. `weight` is that of a tap, an input
    /// channel and one of `outputs` output channels.
    fn convolved(
        &self,
        winograd: &Winograd,
        outputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Vec<f64> {
        let [n, height, width] = self.sizes;
        let side = winograd.results;
        let size = |a: usize, b: usize, c, o| f64::from(weight(3 * a + b, c, o).abs());
        let transformed = |index: usize| {
            let (c, o) = (index / outputs, index % outputs);
            let row = |a: usize| (0..3).map(|b| size(a, b, c, o)).collect();
            around(&winograd.weights, &(0..3).map(row).collect())
        };
        let weights = (0..self.channels * outputs).map(transformed);
        let weights: Vec<Matrix> = weights.collect();
        let mut sums = vec![0.0; n * height * width * outputs];
        for tile in self.tiles(side) {
            let [image, i, j] = tile;
            let pixels = self.transformed(winograd, tile);
            for o in 0..outputs {
                let mut products = zeros(side + 2);
                let of_result = weights.iter().skip(o).step_by(outputs);
                for (pixels, weights) in pixels.iter().zip(of_result) {
                    add_product(&mut products, pixels, weights);
                }
                let results = around(&winograd.outputs, &products);
                for (a, row) in results.iter().enumerate().take(height - i) {
                    for (b, result) in row.iter().enumerate().take(width - j) {
                        let pixel = (image * height + i + a) * width + j + b;
                        sums[pixel * outputs + o] = *result;
                    }
                }
            }
        }
        sums
    }

    /// For each weight `[3, 3, C, O]` of a kernel, the sum of the terms of its gradient without their signs, from the
    /// gradient `d` of the results.
    fn kernel_gradient(&self, winograd: &Winograd, d: &Images) -> Vec<f64> {
        let (inputs, outputs) = (self.channels, d.channels);
        let side = winograd.results;
        let mut products = vec![zeros(side + 2); inputs * outputs];
        let from_outputs = turned(&winograd.outputs);
        for tile in self.tiles(side) {
            let pixels = self.transformed(winograd, tile);
            let gradients = d.squares(side, tile, 0);
            let gradients = gradients.iter().map(|e| around(&from_outputs, e));
            let gradients: Vec<Matrix> = gradients.collect();
            for (index, sum) in products.iter_mut().enumerate() {
                add_product(sum, &pixels[index / outputs], &gradients[index % outputs]);
            }
        }
        let mut sums = vec![0.0; 9 * inputs * outputs];
        let from_weights = turned(&winograd.weights);
        for (index, products) in products.iter().enumerate() {
            let taps = around(&from_weights, products);
            for (tap, sum) in taps.iter().flatten().enumerate() {
                sums[tap * inputs * outputs + index] = *sum;
            }
        }
        sums
    }
}

fn zeros(side: usize) -> Matrix {
    vec![vec![0.0; side]; side]
}

/// Adds the products place by place.
fn add_product(sum: &mut Matrix, a: &Matrix, b: &Matrix) {
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

/// How often the sums of a layer's results are rounded beside their products, in tiles of one size or the other.
struct Roundings {
    /// Of y, and of dz without the one for the skip.
    convolution: usize,
    kernel: usize,
}

impl Winograd {
    fn roundings(&self) -> Roundings {
        match self.results {
            2 => Roundings {
                convolution: 10,
                kernel: 24,
            },
            _ => Roundings {
                convolution: 18,
                kernel: 36,
            },
        }
    }
}

/// Checks a layer on `images`, where a weight's gradient is a sum of so many `runs` of tiles, and a product of so many `tiles`:
/// of those of a run in large tiles, and of a task in small ones, whose runs are added up before they are transformed.
fn check<F: Stored>(
    winograd: &Winograd,
    [inputs, outputs]: [usize; 2],
    images: [usize; 3],
    tiles: usize,
    runs: usize,
) {
    let case = noisy_case::<F>(images, [inputs, outputs]);
    assert_eq!(case.is_in_large_tiles(), winograd.results == 4);
    let (a, dy) = (case.activations(), super::in_f64(&case.dy));
    let of = |channels, values| Images {
        sizes: images,
        channels,
        values,
    };
    let (a, d) = (of(inputs, &a), of(outputs, &dy));
    let (kernel, skip) = (&case.kernel, &case.skip);
    let mut y_terms = a.convolved(winograd, outputs, |tap, c, o| {
        kernel[(tap * inputs + c) * outputs + o]
    });
    for (terms, skip) in y_terms.iter_mut().zip(skip) {
        *terms += f64::from(skip.abs());
    }
    let dz_terms = d.convolved(winograd, inputs, |tap, o, c| {
        kernel[((8 - tap) * inputs + c) * outputs + o]
    });
    let kernel_terms = a.kernel_gradient(winograd, &d);
    let y = case.forward();
    let [dz, _, _, dkernel] = case.backward::<F32>(&dy);
    let Roundings {
        convolution,
        kernel: of_gradient,
    } = winograd.roundings();
    let mut on_first_set = None;
    for isa in sets() {
        // `direct.rs` has these layers.
        if F::VALUES > 1 && isa == Isa::Amx {
            continue;
        }
        let name = |result| format!("{isa}, {:?}, {result}", F::FORMAT);
        let (got, ..) = case.forward_on::<F>(isa);
        Bound::new::<F>(inputs + convolution + 1, 2)
            .stored()
            .check(&name("y"), &got, &y, &y_terms);
        let dy = F::lanes(&case.dy);
        let [got_dz, _, _, got_kernel] = case.backward_on::<F>(isa, &OutputGradient::Plain(&dy));
        Bound::new::<F>(outputs + convolution, 2).stored().check(
            &name("dz"),
            &got_dz,
            &dz,
            &dz_terms,
        );
        let bound = Bound::new::<F>(tiles + runs + of_gradient, 2);
        bound.check(&name("kernel"), &got_kernel, &dkernel, &kernel_terms);
        if winograd.results == 4 {
            check_mean_deviation::<F>(&name("y"), &got, &y);
            check_mean_deviation::<F>(&name("dz"), &got_dz, &dz);
            check_mean_deviation::<F>(&name("kernel"), &got_kernel, &dkernel);
        }
        let results = [got, got_dz, got_kernel];
        let first = on_first_set.get_or_insert_with(|| results.clone());
        assert!(results == *first, "{isa} has bits of its own");
    }
}

/// Checks that results are not farther from f64 than some roundings carry them by chance: matrices that do not quite belong
/// together would stay within the bounds. The numbers are the same on each processor; they are 0.3 to 1.2e-6 in f32
/// and 0.0086 to 0.0132 in bf16.
fn check_mean_deviation<F: Stored>(name: &str, got: &[f64], exact: &[f64]) {
    let deviation: f64 = got.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = exact.iter().map(|value| value.powi(2)).sum();
    let share = (deviation / size).sqrt();
    println!("{name}: {share:.2e} from f64");
    let most = if F::VALUES > 1 { -6 } else { -19 };
    assert!(share < 2f64.powi(most), "{name}: {share:e} from f64");
}

/// Channels of wide layers.
const WIDE: [usize; 2] = [128, 144];

#[test]
fn layers_in_tiles_are_as_near_to_f64_as_the_roundings_of_tiles_allow() {
    check::<F32>(&small(), WIDE, [2, 6, 6], 9, 1);
    check::<F32>(&small(), WIDE, [3, 5, 6], 9, 1);
    check::<F32>(&small(), WIDE, [2, 1, 6], 3, 1);
    check::<F32>(&small(), [16, 48], [35, 5, 5], 27, 1);
    check::<F32>(&small(), [48, 16], [67, 6, 6], 45, 2);
    check::<F32>(&small(), [32, 32], [5, 2, 2], 1, 1);
    // A wide kernel and few tiles.
    check::<F32>(&small(), [176, 160], [3, 8, 8], 16, 1);
}

#[test]
fn so_they_are_in_large_tiles() {
    check::<F32>(&large(), WIDE, [2, 8, 8], 4, 1);
    check::<F32>(&large(), WIDE, [1, 17, 17], 25, 1);
    check::<F32>(&large(), WIDE, [3, 5, 7], 4, 1);
    check::<F32>(&large(), [16, 48], [2, 8, 32], 16, 1);
    check::<F32>(&large(), [48, 16], [1, 35, 34], 44, 2);
    check::<F32>(&large(), [64, 80], [19, 4, 4], 2, 1);
    check::<F32>(&large(), [32, 32], [2, 33, 3], 9, 1);
    // A wide kernel and enough tiles.
    check::<F32>(&large(), [176, 160], [2, 13, 16], 16, 1);
}

#[test]
fn in_bf16_they_are_as_near_as_one_more_rounding_of_each_factor_allows() {
    let check = check::<Bf16>;
    check(&small(), WIDE, [2, 6, 6], 9, 1);
    check(&small(), WIDE, [2, 1, 6], 3, 1);
    check(&small(), [16, 48], [35, 5, 5], 27, 1);
    check(&small(), [48, 16], [131, 6, 6], 81, 2);
    check(&small(), [32, 32], [5, 2, 2], 1, 1);
    check(&small(), [176, 160], [3, 8, 8], 16, 1);
    check(&large(), WIDE, [2, 8, 8], 4, 1);
    check(&large(), WIDE, [3, 5, 7], 4, 1);
    check(&large(), [16, 48], [2, 8, 32], 16, 1);
    check(&large(), [48, 16], [1, 47, 46], 72, 2);
    check(&large(), [64, 80], [19, 4, 4], 2, 1);
    check(&large(), [32, 32], [2, 33, 3], 9, 1);
    check(&large(), [176, 160], [2, 13, 16], 16, 1);
}
