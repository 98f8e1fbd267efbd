//! Pooling behind a convolution.

use super::common::sets;
use super::{Bf16, Case, F32, OutputGradient, Stored, TILE, check_moments};

/// A case with pooling behind its convolution, and without a skip.
fn pooling(sizes: [usize; 3], channels: [usize; 2], stride: usize) -> Case {
    let mut case = Case::new(sizes, channels, [3, stride]);
    case.layer.pools = true;
    case.skip.fill(0.0);
    case
}

impl Case {
    /// For each value of the result behind pooling, the values of its square in `y`, by their indices.
    fn squares(&self) -> Vec<[usize; 4]> {
        let layer = &self.layer;
        let (height, width) = (layer.output_height(), layer.output_width());
        let mut squares = Vec::new();
        for n in 0..layer.images {
            for i in 0..height / 2 {
                for j in 0..width / 2 {
                    for o in 0..layer.outputs {
                        let value = |a, b| {
                            ((n * height + 2 * i + a) * width + 2 * j + b) * layer.outputs + o
                        };
                        squares.push([value(0, 0), value(0, 1), value(1, 0), value(1, 1)]);
                    }
                }
            }
        }
        squares
    }

    /// Which of its square each value of the result is: the first of the largest.
    fn chosen(&self, y: &[f64]) -> Vec<usize> {
        let of_square = |square: &[usize; 4]| {
            let most = square
                .iter()
                .map(|index| y[*index])
                .fold(f64::MIN, f64::max);
            square.iter().position(|index| y[*index] == most).unwrap()
        };
        self.squares().iter().map(of_square).collect()
    }
}

fn pooled<F: Stored>() {
    let cases = [
        pooling([19, 4, 6], [16, 32], 1),
        pooling([3, 5, 7], [32, 16], 1),
        pooling([2, 9, 8], [16, 48], 2),
        pooling([3, 5, 7], [144, 128], 1),
        pooling([17, 4, 4], [128, 144], 1),
        pooling([19, 6, 5], [48, 32], 1),
        pooling([3, 5, 6], [128, 144], 1),
    ];
    for case in cases {
        if case.is_in_large_tiles() {
            pooled_of_the_layer_alone::<F>(&case);
            continue;
        }
        let y = case.forward();
        let (squares, chosen) = (case.squares(), case.chosen(&y));
        let largest = squares.iter().zip(&chosen);
        let largest = largest.map(|(square, chosen)| F::rounded(y[square[*chosen]]));
        let largest: Vec<f64> = largest.collect();
        let numbers: Vec<f64> = chosen.iter().map(|number| *number as f64).collect();
        // The gradient of the result, and the one of y that it stands for.
        let dy = &case.dy[..largest.len()];
        let mut spread = vec![0.0; y.len()];
        for (index, (square, chosen)) in squares.iter().zip(&chosen).enumerate() {
            spread[square[*chosen]] = f64::from(dy[index]);
        }
        let expected = case.backward::<F>(&spread);
        let numbers_in_f32: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
        let gradient: OutputGradient<F> = OutputGradient::Pooled {
            dy: &F::lanes(dy),
            chosen: &F::lanes(&numbers_in_f32),
        };
        for isa in sets() {
            let (got, moments, got_numbers) = case.forward_on::<F>(isa);
            assert_eq!(got, largest, "{isa}: {:?}", case.layer);
            assert_eq!(got_numbers, numbers, "{isa}: {:?}", case.layer);
            check_moments(&largest, &moments, TILE);
            for (got, expected) in case.backward_on(isa, &gradient).iter().zip(&expected) {
                assert_eq!(got, expected, "{isa}: {:?}", case.layer);
            }
        }
    }
}

/// Where sums are not exact: the result and the gradients are those of the layer without pooling, bit for bit.
fn pooled_of_the_layer_alone<F: Stored>(case: &Case) {
    let mut alone = case.clone();
    alone.layer.pools = false;
    for isa in sets() {
        let (y, ..) = alone.forward_on::<F>(isa);
        let (got, moments, numbers) = case.forward_on::<F>(isa);
        let (squares, first) = (case.squares(), case.chosen(&y));
        let chosen: Vec<usize> = numbers.iter().map(|number| *number as usize).collect();
        let of_squares = |chosen: &[usize]| -> Vec<usize> {
            squares.iter().zip(chosen).map(|(s, c)| s[*c]).collect()
        };
        let at = |indices: &[usize]| -> Vec<f64> { indices.iter().map(|i| y[*i]).collect() };
        let indices = of_squares(&chosen);
        let largest = at(&of_squares(&first));
        assert_eq!(got, largest, "{isa}: {:?}", case.layer);
        // In bf16 values are rounded behind pooling: of those that are equal then, another than the first may have been larger.
        assert_eq!(at(&indices), largest, "{isa}: {:?}", case.layer);
        if F::VALUES == 1 {
            assert_eq!(chosen, first, "{isa}: {:?}", case.layer);
        }
        check_moments(&largest, &moments, TILE);
        let mut spread = vec![0.0; y.len()];
        for (index, dy) in indices.iter().zip(&case.dy) {
            spread[*index] = *dy;
        }
        let expected = alone.backward_on::<F>(isa, &OutputGradient::Plain(&F::lanes(&spread)));
        let gradient: OutputGradient<F> = OutputGradient::Pooled {
            dy: &F::lanes(&case.dy[..largest.len()]),
            chosen: &F::lanes(&numbers.iter().map(|n| *n as f32).collect::<Vec<_>>()),
        };
        let got = case.backward_on(isa, &gradient);
        assert_eq!(got, expected, "{isa}: {:?}", case.layer);
    }
}

#[test]
fn pooling_keeps_the_largest_of_each_square_and_its_gradient_goes_back_there() {
    pooled::<F32>();
    pooled::<Bf16>();
}
