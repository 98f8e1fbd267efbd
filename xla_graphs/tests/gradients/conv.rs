//! Convolutions.

use xla_graphs::ops::Lowering;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::tensors::Tensors;

use crate::common::{Graph, check_gradients, input};

/// `x_dims`: `[N, H, W, in]`.
fn check_conv(side: usize, stride: usize, x_dims: [usize; 4], outputs: usize) {
    check_padded_conv(side, stride, Padding::Far, x_dims, outputs);
}

fn check_padded_conv(
    side: usize,
    stride: usize,
    padding: Padding,
    x_dims: [usize; 4],
    outputs: usize,
) {
    let inputs = x_dims[3];
    for lowering in [Lowering::Native, Lowering::Dots] {
        let conv = Conv {
            name: "c".into(),
            side,
            stride,
            inputs,
            outputs,
            padding,
            lowering,
        };
        check_gradients(
            &[
                input("x", &x_dims),
                input("c/kernel", &[side, side, inputs, outputs]),
            ],
            &["x", "c/kernel"],
            |t| conv.forward(t, t.get("x")?),
            |t, dy| {
                let mut gradients = Tensors::new();
                let dx = conv.backward(t, t.get("x")?, dy, &mut gradients)?;
                gradients.insert("x", dx);
                Ok(gradients)
            },
        );
    }
}

#[test]
fn convolution_3x3() {
    check_conv(3, 1, [2, 6, 6, 5], 4);
    check_conv(3, 1, [1, 5, 3, 1], 9);
    check_conv(3, 1, [3, 2, 4, 3], 1);
}

#[test]
fn convolution_3x3_of_one_pixel() {
    check_conv(3, 1, [1, 1, 1, 3], 2);
    check_conv(3, 2, [1, 1, 1, 3], 2);
}

#[test]
fn convolution_3x3_with_stride_2_on_even_and_odd_sides() {
    check_conv(3, 2, [2, 6, 6, 3], 5);
    check_conv(3, 2, [1, 7, 7, 3], 5);
    check_conv(3, 2, [1, 5, 4, 2], 3);
    check_conv(3, 2, [1, 2, 3, 1], 1);
}

#[test]
fn convolution_7x7_with_stride_2() {
    check_conv(7, 2, [1, 8, 8, 3], 4);
    check_conv(7, 2, [1, 5, 9, 2], 2);
}

#[test]
fn convolution_with_stride_2_whose_odd_pixel_of_padding_is_on_the_near_side() {
    check_padded_conv(3, 2, Padding::Near, [2, 6, 4, 3], 5);
    check_padded_conv(3, 2, Padding::Near, [1, 2, 5, 2], 3);
    check_padded_conv(7, 2, Padding::Near, [1, 8, 6, 3], 4);
}

#[test]
fn padding_of_half_a_window_is_that_of_pytorch_without_what_no_window_reaches() {
    for (side, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)] {
        for size in 1usize..20 {
            // PyTorch's documentation of Conv2d, with a padding of half a window on both sides.
            let half = side / 2;
            let places = (size + 2 * half - side) / stride + 1;
            assert_eq!(places, size.div_ceil(stride));
            let (low, high) = Padding::Near.of(size, side, stride);
            assert_eq!(low as usize, half, "{side} {stride} {size}");
            let reached = (places - 1) * stride + side - half;
            assert_eq!(
                high as usize,
                reached.saturating_sub(size),
                "{side} {stride} {size}"
            );
        }
    }
}

#[test]
fn convolution_1x1() {
    check_conv(1, 1, [2, 4, 4, 7], 3);
    check_conv(1, 1, [1, 3, 5, 1], 11);
    check_conv(1, 1, [1, 1, 1, 3], 4);
}

#[test]
fn convolution_1x1_with_stride_2_on_even_and_odd_sides() {
    check_conv(1, 2, [2, 6, 6, 3], 4);
    check_conv(1, 2, [1, 5, 5, 3], 4);
    check_conv(1, 2, [1, 1, 1, 3], 4);
    check_conv(1, 2, [3, 3, 4, 1], 2);
}

#[test]
fn both_lowerings_of_a_convolution_agree() {
    let inputs = [input("x", &[2, 5, 5, 3]), input("c/kernel", &[1, 1, 3, 4])];
    let run = |lowering| {
        let conv = Conv {
            name: "c".into(),
            side: 1,
            stride: 2,
            inputs: 3,
            outputs: 4,
            padding: Padding::Far,
            lowering,
        };
        Graph::new(&inputs, |t| Ok(vec![conv.forward(t, t.get("x")?)?])).run(&inputs)
    };
    let (a, b) = (run(Lowering::Native), run(Lowering::Dots));
    let largest = a[0]
        .iter()
        .zip(&b[0])
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(largest < 1e-5, "{largest}");
}
