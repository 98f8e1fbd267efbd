//! The first convolution in front of all layers, against plain loops.

use cpu_kernels::format::{Bf16, F32};
use cpu_kernels::inference::{self, Input, Stem, Step};
use cpu_kernels::norm::Norm;
use kernel_contract::plan::{self, Start};

use super::common::{noise, sets};
use super::{Layer, Stored, lanes};

/// The stem's result in plain loops, and 0 where it is negative: whole numbers, or what is none.
fn rectified(
    sizes: &plan::Stem,
    images: usize,
    outputs: usize,
    x: &[f32],
    kernel: &[f32],
) -> Vec<f32> {
    let [height, width, channels] = sizes.image;
    let [rows, columns] = [height, width].map(|size| size.div_ceil(sizes.stride));
    // The smaller half of what the last kernel needs beyond the image comes before it.
    let border = |size: usize, stops: usize| {
        ((stops - 1) * sizes.stride + sizes.side).saturating_sub(size) / 2
    };
    let (above, before) = (border(height, rows), border(width, columns));
    let mut y = Vec::new();
    for place in 0..images * rows * columns * outputs {
        let (pixel, o) = (place / outputs, place % outputs);
        let (n, i, j) = (
            pixel / columns / rows,
            pixel / columns % rows,
            pixel % columns,
        );
        let mut sum = 0.0;
        for tap in 0..sizes.side * sizes.side * channels {
            let (a, b, c) = (
                tap / channels / sizes.side,
                tap / channels % sizes.side,
                tap % channels,
            );
            let row = (i * sizes.stride + a).checked_sub(above);
            let column = (j * sizes.stride + b).checked_sub(before);
            let inside = |place: Option<usize>, size| place.filter(|place| *place < size);
            if let (Some(row), Some(column)) = (inside(row, height), inside(column, width)) {
                let x = x[((n * height + row) * width + column) * channels + c];
                sum += x * kernel[tap * outputs + o];
            }
        }
        y.push(if sum < 0.0 { 0.0 } else { sum });
    }
    y
}

fn check_stem<F: Stored>(image: [usize; 3], [side, stride]: [usize; 2], outputs: usize) {
    let images = 3;
    let nowhere = Start {
        operand: 0,
        offset: 0,
        per_round: 0,
    };
    let sizes = plan::Stem {
        image,
        side,
        stride,
        kernel: nowhere,
    };
    // No sum of so many is more than bf16 holds exactly.
    let signs = |seed, count| -> Vec<f32> {
        noise(seed, count)
            .iter()
            .map(|v| (v * 1.5).round())
            .collect()
    };
    let x = signs(1, images * sizes.image_len());
    let kernel = signs(2, sizes.depth() * outputs);
    // Behind the stem, what is positive stays as it is.
    let [height, width] = sizes.result();
    let layer = Layer {
        images,
        height,
        width,
        inputs: outputs,
        outputs,
        side: 1,
        stride: 1,
        pools: false,
        format: F::FORMAT,
    };
    let (zeros, ones) = (vec![0.0; outputs], vec![1.0; outputs]);
    let mut identity = vec![0.0; outputs * outputs];
    identity
        .iter_mut()
        .step_by(outputs + 1)
        .for_each(|one| *one = 1.0);
    let step = || Step {
        layer,
        norm: Norm::new(&zeros, &ones, &ones, &zeros, 0.0),
        kernel: &identity,
        input: 0,
        added: None,
    };
    // A value of the second image is no number.
    let mut wrong = x.clone();
    wrong[sizes.image_len() * 3 / 2] = f32::NAN;
    for x in [x, wrong] {
        let expected = rectified(&sizes, images, outputs, &x, &kernel);
        let expected = bits_of_numbers::<F>(&lanes::<F>(&expected));
        for isa in sets() {
            let input = Input::<F>::Images(&x, Stem::new(sizes, &kernel, outputs));
            let mut y = vec![F::of(&[f32::NAN; 16]); expected.len() / 16];
            inference::forward(isa, &input, &[step()], &mut y);
            let got = bits_of_numbers::<F>(&y);
            assert_eq!(got, expected, "{isa}, {:?}, {sizes:?}", F::FORMAT);
        }
    }
}

/// The bits of all values but of those that are no numbers.
fn bits_of_numbers<F: Stored>(lanes: &[F::Lanes]) -> Vec<Option<u32>> {
    let values = lanes.iter().flat_map(F::values);
    values.map(|v| (!v.is_nan()).then(|| v.to_bits())).collect()
}

#[test]
fn a_stem_is_the_convolution_in_plain_loops() {
    for image in [[9, 7, 3], [1, 1, 3], [4, 33, 2]] {
        for shape in [[3, 1], [3, 2], [7, 2], [2, 1], [1, 3]] {
            check_stem::<F32>(image, shape, 16);
            check_stem::<Bf16>(image, shape, 48);
        }
    }
}
