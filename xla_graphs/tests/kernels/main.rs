//! The CPU's fused kernels against the same layers composed of XLA's operations, whose gradients
//! other tests hold against central differences.

#[path = "../common/mod.rs"]
mod common;

mod chain;
mod junctions;
mod refused;

use chain::{Chain, Shape};
use common::{Graph, NO_KERNELS, ROUNDING, input};
use xla::{PrimitiveType, XlaOp};
use xla_graphs::Result;
use xla_graphs::ops::Lowering;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::kernels::Inference;
use xla_graphs::tensors::Tensors;

/// Both sides round to bf16 in the same places, but in 3x3 layers with stride 1, whose tiles round elsewhere. Where a sum
/// differs in the last digits of f32, what is stored may be the other neighbour: a unit of bf16, 2^-7 of the value at most.
/// How far a sum may be from f64, also in tiles, is tested in `cpu_kernels/tests/reference.rs`.
const BF16_UNIT: f32 = 1.0 / 128.0;

fn check(x_dims: [usize; 4], shapes: [Shape; 2]) {
    check_in(PrimitiveType::F32, ROUNDING, x_dims, shapes);
    let is_in_tiles = |Shape(side, stride, _): &Shape| [*side, *stride] == [3, 1];
    if !shapes.iter().any(is_in_tiles) {
        check_in(PrimitiveType::Bf16, BF16_UNIT + ROUNDING, x_dims, shapes);
    }
}

fn check_in(images: PrimitiveType, bound: f32, x_dims: [usize; 4], shapes: [Shape; 2]) {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    let chain = Chain::new(x_dims, shapes);
    let inputs = chain.inputs();
    let run = |trace: &dyn Fn(&Tensors) -> Result<Vec<XlaOp>>| {
        Graph::new(&inputs, |t| trace(t)).run(&inputs)
    };
    let expected = run(&|t| chain.composed(t, images));
    let got = run(&|t| chain.fused(t, images));
    let mut most = 0f32;
    for ((name, got), expected) in chain.names().iter().zip(&got).zip(&expected) {
        assert_eq!(got.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let error = (got - expected).abs() / scale;
            assert!(
                error < bound,
                "{x_dims:?}: {name}[{index}] is {got}, composed {expected}: {error:.1e}"
            );
            most = most.max(error);
        }
    }
    println!("{x_dims:?} in {images:?}: largest error {most:.1e}");
}

#[test]
fn a_bottleneck_layer_and_the_3x3_behind_it() {
    check([3, 8, 8, 64], [Shape(1, 1, 16), Shape(3, 1, 16)]);
}

#[test]
fn a_3x3_layer_and_the_expansion_behind_it() {
    check([3, 8, 8, 16], [Shape(3, 1, 16), Shape(1, 1, 64)]);
}

#[test]
fn stride_2_on_even_and_odd_sides() {
    check([2, 6, 6, 32], [Shape(1, 2, 16), Shape(3, 1, 16)]);
    check([2, 7, 5, 16], [Shape(1, 2, 32), Shape(1, 2, 16)]);
    check([3, 6, 8, 32], [Shape(3, 2, 16), Shape(3, 1, 16)]);
    check([2, 7, 5, 16], [Shape(1, 1, 32), Shape(3, 2, 16)]);
}

#[test]
fn images_of_one_pixel() {
    check([3, 1, 1, 16], [Shape(1, 1, 16), Shape(1, 1, 32)]);
    // Two values alone are always one above and one below their mean, which leaves nothing of a gradient but rounding.
    check([5, 1, 1, 16], [Shape(3, 1, 16), Shape(1, 1, 16)]);
}

#[test]
fn sides_that_no_block_of_rows_divides() {
    check([2, 5, 11, 16], [Shape(3, 1, 32), Shape(1, 1, 16)]);
    check([2, 13, 7, 32], [Shape(1, 1, 16), Shape(3, 1, 48)]);
    check([2, 13, 7, 32], [Shape(1, 1, 16), Shape(3, 2, 48)]);
}

#[test]
fn more_images_than_tasks_and_more_pixels_than_a_tile() {
    check([35, 12, 12, 16], [Shape(1, 1, 16), Shape(3, 1, 16)]);
    check([18, 3, 4, 16], [Shape(3, 1, 16), Shape(1, 1, 16)]);
    check([35, 12, 12, 16], [Shape(3, 2, 16), Shape(1, 1, 16)]);
}

#[test]
fn wide_3x3_layers() {
    check([5, 7, 6, 128], [Shape(3, 1, 128), Shape(3, 1, 144)]);
}

#[test]
fn a_stem_in_front_of_layers_is_xlas_convolution() {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    for (image, side, stride) in [
        ([9, 7], 3, 1),
        ([9, 8], 3, 2),
        ([11, 14], 7, 2),
        ([6, 5], 2, 1),
    ] {
        let stem = Conv {
            name: "stem".to_owned(),
            side,
            stride,
            inputs: 3,
            outputs: 32,
            padding: Padding::Far,
            lowering: Lowering::Kernels,
        };
        let x_dims = image.map(|size| stem.output_side(size));
        let chain = Chain::new(
            [3, x_dims[0], x_dims[1], 32],
            [Shape(3, 1, 16), Shape(1, 1, 16)],
        );
        let (bn, conv) = &chain.layers[0];
        let mut inputs = chain.inputs();
        inputs.push(input("images", &[3, image[0], image[1], 3]));
        inputs.push(input("stem/kernel", &[side, side, 3, 32]));
        let graph = Graph::new(&inputs, |t| {
            let images = t.get("images")?;
            let stored = stem.forward(t, images)?;
            let (mut call, value) = Inference::new(t, &stored)?;
            call.layer((bn, conv, false), value, None)?;
            let apart = call.result()?;
            let (mut call, value) = Inference::behind(t, &stem, images, PrimitiveType::F32)?;
            call.layer((bn, conv, false), value, None)?;
            Ok(vec![apart, call.result()?])
        });
        let results = graph.run(&inputs);
        let scale = results[0].iter().fold(0f32, |most, v| most.max(v.abs()));
        for (apart, together) in results[0].iter().zip(&results[1]) {
            assert!(
                (apart - together).abs() < ROUNDING * scale,
                "{apart}, {together}"
            );
        }
        let equal = results[0].iter().zip(&results[1]).filter(|(a, b)| a == b);
        println!(
            "{image:?}, {side}x{side}: {} of {} equal",
            equal.count(),
            results[0].len()
        );
    }
}
