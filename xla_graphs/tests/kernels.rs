//! The CPU's fused kernels against the same layers composed of XLA's operations, whose gradients
//! other tests hold against central differences.

mod common;

use common::{Graph, Input, NO_KERNELS, ROUNDING, input, shift_away_from_zero};
use kernel_contract::plan::{self, Norm, NormBackward, Start};
use kernel_contract::{Format, Kernel, Plan};
use xla::{ElementType, PrimitiveType, XlaOp};
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::batch_norm::{BatchNorm, EPSILON};
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::kernels::{self, BehindNorm, Features, Gradient, Inference, Junction};
use xla_graphs::ops::{Lowering, relu};
use xla_graphs::tensors::Tensors;

/// Side and stride of a convolution and its output channels.
#[derive(Clone, Copy)]
struct Shape(usize, usize, usize);

/// Two layers, one behind the other.
struct Chain {
    layers: [(BatchNorm, Conv); 2],
    x_dims: [usize; 4],
}

impl Chain {
    fn new(x_dims: [usize; 4], shapes: [Shape; 2]) -> Self {
        let mut inputs = x_dims[3];
        let layers = [0, 1].map(|index| {
            let Shape(side, stride, outputs) = shapes[index];
            let bn = BatchNorm {
                name: format!("b{index}"),
                channels: inputs,
                epsilon: EPSILON,
                lowering: Lowering::Native,
            };
            let conv = Conv {
                name: format!("c{index}"),
                side,
                stride,
                inputs,
                outputs,
                padding: Padding::Far,
                lowering: Lowering::Native,
            };
            inputs = outputs;
            (bn, conv)
        });
        Self { layers, x_dims }
    }

    fn y_dims(&self) -> [usize; 4] {
        let [n, mut h, mut w, _] = self.x_dims;
        for (_, conv) in &self.layers {
            (h, w) = (conv.output_side(h), conv.output_side(w));
        }
        [n, h, w, self.layers[1].1.outputs]
    }

    /// Both sides round differently, and no activation may lie so near zero that its gradient depends on that. What the
    /// first norm makes of `x` has both signs in every channel and a gap between them; the second norm's input has not,
    /// and its channels are shifted away from zero.
    fn inputs(&self) -> Vec<Input> {
        let mut x = input("x", &self.x_dims);
        for value in &mut x.values {
            *value += value.signum();
        }
        let mut inputs = vec![
            x,
            input("skip", &self.y_dims()),
            input("dy", &self.y_dims()),
        ];
        for (bn, conv) in &self.layers {
            for spec in bn.tensors().into_iter().chain(conv.tensors()) {
                let mut tensor = input(Box::leak(spec.name.into_boxed_str()), &spec.dims);
                match tensor.name {
                    "b0/beta" => tensor.values.iter_mut().for_each(|v| *v *= 0.1),
                    "b0/gamma" => tensor.values.iter_mut().for_each(|v| *v += v.signum()),
                    "b1/beta" => shift_away_from_zero(&mut tensor.values),
                    name if name.ends_with("variance") => {
                        tensor.values.iter_mut().for_each(|v| *v = v.abs() + 0.5);
                    }
                    _ => {}
                }
                inputs.push(tensor);
            }
        }
        inputs
    }

    /// The results that both sides give, in order.
    fn names(&self) -> Vec<String> {
        let mut names = vec!["y".to_owned(), "inferred".to_owned(), "dx".to_owned()];
        for index in 0..2 {
            for tensor in [
                "b/gamma",
                "b/beta",
                "b/moving_mean",
                "b/moving_variance",
                "c/kernel",
            ] {
                names.push(tensor.replacen('/', &format!("{index}/"), 1));
            }
        }
        names
    }

    /// With the roundings of images of type `images`: of all that is stored, and of the factors of products.
    fn composed(&self, t: &Tensors, images: PrimitiveType) -> Result<Vec<XlaOp>> {
        let rounded =
            |x: &XlaOp| -> Result<XlaOp> { Ok(x.convert(images)?.convert(PrimitiveType::F32)?) };
        let mut factors = Tensors::new();
        for (name, value) in t.iter() {
            let is_factor = !name.starts_with('b');
            factors.insert(
                name,
                if is_factor {
                    rounded(value)?
                } else {
                    value.clone()
                },
            );
        }
        let (t, one) = (&factors, Replicas(1));
        let (mut batch, mut gradients) = (Tensors::new(), Tensors::new());
        let [(bn0, conv0), (bn1, conv1)] = &self.layers;
        let (z0, saved0) = bn0.forward(t, t.get("x")?, one, &mut batch)?;
        let a0 = rounded(&relu::forward(&z0)?)?;
        let h = rounded(&conv0.forward(t, &a0)?)?;
        let (z1, saved1) = bn1.forward(t, &h, one, &mut batch)?;
        let a1 = rounded(&relu::forward(&z1)?)?;
        let y = rounded(&(conv1.forward(t, &a1)? + t.get("skip")?)?)?;

        let infer = |bn: &BatchNorm, conv: &Conv, x: &XlaOp| -> Result<XlaOp> {
            let a = rounded(&relu::forward(&bn.infer(t, x)?)?)?;
            rounded(&conv.forward(t, &a)?)
        };
        let inferred = infer(bn1, conv1, &infer(bn0, conv0, t.get("x")?)?)?;

        let da1 = conv1.backward(t, &a1, t.get("dy")?, &mut gradients)?;
        let dz1 = rounded(&relu::backward(&a1, &da1)?)?;
        let dh = rounded(&bn1.backward(t, &saved1, &dz1, one, &mut gradients)?)?;
        let da0 = conv0.backward(t, &a0, &dh, &mut gradients)?;
        let dz0 = rounded(&relu::backward(&a0, &da0)?)?;
        let dx = rounded(&bn0.backward(t, &saved0, &dz0, one, &mut gradients)?)?;

        let mut results = vec![y, inferred, dx];
        for (bn, conv) in &self.layers {
            for tensor in ["gamma", "beta"] {
                results.push(gradients.get(&format!("{}/{tensor}", bn.name))?.clone());
            }
            for tensor in ["moving_mean", "moving_variance"] {
                results.push(batch.get(&format!("{}/{tensor}", bn.name))?.clone());
            }
            results.push(gradients.get(&format!("{}/kernel", conv.name))?.clone());
        }
        Ok(results)
    }

    /// The same on the kernels, with images of type `images`, f32 or bf16.
    fn fused(&self, t: &Tensors, images: PrimitiveType) -> Result<Vec<XlaOp>> {
        let one = Replicas(1);
        let (mut batch, mut gradients) = (Tensors::new(), Tensors::new());
        let [(bn0, conv0), (bn1, conv1)] = &self.layers;
        let stored = |name| -> Result<XlaOp> { Ok(t.get(name)?.convert(images)?) };
        let (x, skip, dy) = (stored("x")?, stored("skip")?, stored("dy")?);
        bn0.forward(t, &x, one, &mut batch)?;
        let mean = batch.get("b0/moving_mean")?;
        let x = Features::new(&x, mean, batch.get("b0/moving_variance")?)?;
        let h = kernels::forward(t, bn0, conv0, &x, None, one)?;
        let added = h.with_images(&skip)?;
        let y = kernels::forward(t, bn1, conv1, &h, Some(&added), one)?.images()?;

        let images = x.images()?;
        let (mut call, value) = Inference::new(t, &images)?;
        let value = call.layer((bn0, conv0, false), value, None)?;
        call.layer((bn1, conv1, false), value, None)?;
        let inferred = call.result()?;

        x.record(bn0, &mut batch)?;
        h.record(bn1, &mut batch)?;
        let dy = Gradient::Plain(dy);
        let dz1 = kernels::backward(t, bn1, conv1, &h, &dy, one, &mut gradients)?;
        let dz1 = Gradient::BehindNorm(Box::new(dz1));
        let dz0 = kernels::backward(t, bn0, conv0, &x, &dz1, one, &mut gradients)?;
        let dx = dz0.with_skip(&x.zeros()?).sum(t)?;

        let mut results = vec![y, inferred, dx];
        for result in &mut results {
            *result = result.convert(PrimitiveType::F32)?;
        }
        for (bn, conv) in &self.layers {
            let half = |pair: &XlaOp, which: i64| {
                let channels = bn.channels as i64;
                pair.slice_in_dim(which * channels, (which + 1) * channels, 1, 0)
            };
            let sums = gradients.block(&format!("{}/gamma", bn.name))?;
            let moments = batch.block(&format!("{}/moving_mean", bn.name))?;
            results.extend([half(sums, 0)?, half(sums, 1)?]);
            results.extend([half(moments, 0)?, half(moments, 1)?]);
            results.push(gradients.get(&format!("{}/kernel", conv.name))?.clone());
        }
        Ok(results)
    }
}

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

/// The chain's input with the moving statistics of `bn`.
fn with_moving_statistics(t: &Tensors, images: PrimitiveType, bn: &BatchNorm) -> Result<Features> {
    let mean = t.get(&format!("{}/moving_mean", bn.name))?;
    let variance = t.get(&format!("{}/moving_variance", bn.name))?;
    Features::new(&t.get("x")?.convert(images)?, mean, variance)
}

/// What arrives at the result of the last layer of `chain`, out of two branches.
fn junction(chain: &Chain, t: &Tensors, images: PrimitiveType, joined: bool) -> Result<Junction> {
    let (bn, _) = &chain.layers[0];
    let behind = |dz: &str| -> Result<BehindNorm> {
        let x = with_moving_statistics(t, images, bn)?;
        let sums = t.get("b0/gamma")?.concat_in_dim(&[t.get("b0/beta")?], 0)?;
        Ok(BehindNorm::new(bn, &x, &t.get(dz)?.convert(images)?, &sums))
    };
    match joined {
        true => behind("dy")?.join(&behind("skip")?, Replicas(1), &mut Tensors::new()),
        false => Ok(behind("dy")?.with_skip(&t.get("skip")?.convert(images)?)),
    }
}

/// The gradients of the last layer of `chain` from a junction, which is put together on its own or with the layer.
fn from_junction(
    chain: &Chain,
    t: &Tensors,
    images: PrimitiveType,
    joined: bool,
    alone: bool,
) -> Result<Vec<XlaOp>> {
    let (bn, conv) = &chain.layers[1];
    let (layer, one) = ((bn, conv), Replicas(1));
    let x = with_moving_statistics(t, images, bn)?;
    let junction = junction(chain, t, images, joined)?;
    let mut gradients = Tensors::new();
    let (dz, dy) = if alone {
        let dy = junction.sum(t)?;
        let of_result = Gradient::Plain(dy.clone());
        let dz = kernels::backward(t, bn, conv, &x, &of_result, one, &mut gradients)?;
        (dz, dy)
    } else {
        kernels::backward_from_junction(t, layer, &x, junction, one, &mut gradients)?
    };
    let mut results = vec![dy, dz.with_skip(&x.zeros()?).sum(t)?];
    for result in &mut results {
        *result = result.convert(PrimitiveType::F32)?;
    }
    results.extend(gradients.iter().map(|(_, value)| value.clone()));
    Ok(results)
}

#[test]
fn a_junction_gives_the_same_bits_alone_and_in_front_of_a_layer() {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    for side in [1, 3] {
        // A layer in front of a norm over the same images: both take all inputs of the chain.
        let chain = Chain::new([19, 3, 5, 32], [Shape(1, 1, 32), Shape(side, 1, 32)]);
        let inputs = chain.inputs();
        for images in [PrimitiveType::F32, PrimitiveType::Bf16] {
            for joined in [false, true] {
                let run = |alone| {
                    let trace = |t: &Tensors| from_junction(&chain, t, images, joined, alone);
                    Graph::new(&inputs, trace).run(&inputs)
                };
                let (apart, together) = (run(true), run(false));
                assert_eq!(apart.len(), 4);
                assert_eq!(
                    apart, together,
                    "{side}x{side}, {images:?}, joined {joined}"
                );
            }
        }
    }
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

/// Why the first layer of `chain` cannot be traced, with its input as a skip or without.
fn refusal(chain: &Chain, has_skip: bool) -> String {
    let mut message = String::new();
    Graph::new(&chain.inputs(), |t| {
        let (bn, conv) = &chain.layers[0];
        let moving = |name| t.get(&format!("{}/{name}", bn.name));
        let (mean, variance) = (moving("moving_mean")?, moving("moving_variance")?);
        let x = Features::new(t.get("x")?, mean, variance)?;
        let skip = has_skip.then_some(&x);
        let traced = kernels::forward(t, bn, conv, &x, skip, Replicas(1));
        message = traced.err().unwrap().to_string();
        Ok(vec![t.get("x")?.clone()])
    });
    message
}

#[test]
fn a_layer_that_no_kernel_computes_is_refused_where_the_graph_is_built() {
    let refused = |channels, shape, reason: &str| {
        let chain = Chain::new([2, 4, 4, channels], [shape, Shape(1, 1, 16)]);
        let message = refusal(&chain, false);
        assert_eq!(
            message,
            format!(
                "`c0` as a call of resnet_layer_forward: {reason}. Lowering::Dots has no such limit"
            )
        );
    };
    refused(
        16,
        Shape(5, 1, 16),
        "the convolution: expected 1x1 or 3x3, got 5x5",
    );
    refused(
        20,
        Shape(1, 1, 16),
        "input channels: expected a multiple of 16, got 20",
    );
}

#[test]
fn a_skip_that_is_too_small_is_refused_where_the_graph_is_built() {
    // 2 x 4 x 4 pixels of 16 channels beside a result of 32 channels.
    let chain = Chain::new([2, 4, 4, 16], [Shape(1, 1, 32), Shape(1, 1, 16)]);
    assert_eq!(
        refusal(&chain, true),
        "`c0`: the skip needs 1024 values of its array, which has 512"
    );
}

/// What a call by hand of the kernel that goes back through a batch norm comes to, with these `attributes`, and with two
/// arrays of 16 values of f32 as operands behind an s32, or without that.
fn call(attributes: &str, with_round: bool) -> xla::Result<Vec<Vec<f32>>> {
    let inputs = [input("x", &[1, 1, 1, 16]), input("added", &[1, 1, 1, 16])];
    let graph = Graph::new(&inputs, |t| {
        let x = t.get("x")?;
        let mut operands = vec![x.clone(), t.get("added")?.clone()];
        if with_round {
            operands.insert(0, x.builder().c0(0i32)?);
        }
        let (name, attributes) = (Kernel::NormBackward.name(), attributes.as_bytes());
        let (f32, dims, builder) = (ElementType::F32, [1, 1, 1, 16], x.builder());
        Ok(vec![
            builder.custom_call(name, &operands, f32, &dims, attributes)?,
        ])
    });
    graph.try_run(&inputs)
}

fn attribute(plan: &[i32]) -> String {
    let numbers: Vec<_> = plan.iter().map(i32::to_string).collect();
    format!("plan = array<i32: {}>", numbers.join(", "))
}

/// The backward pass through a batch norm of 16 channels of one pixel. All arrays but `added` are the same one, in
/// which gamma begins at value `gamma`.
fn norm_backward(gamma: usize, added: usize) -> Vec<i32> {
    let at = |operand, offset| Start {
        operand,
        offset,
        per_round: 0,
    };
    let norm = Norm {
        mean: at(0, 0),
        variance: at(0, 0),
        gamma: at(0, gamma),
        beta: at(0, 0),
    };
    let behind = plan::BehindNorm {
        norm,
        dgamma: at(0, 0),
        dbeta: at(0, 0),
        count: 1,
        dz: at(0, 0),
        x: at(0, 0),
    };
    let plan = NormBackward {
        dims: [1, 1, 1, 16],
        format: Format::F32,
        behind,
        joined: false,
        added: at(added, 0),
    };
    plan.encode().unwrap()
}

#[test]
fn a_wrong_call_is_an_error_that_says_what_is_wrong() {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    let refused = |attributes: &str, with_round, reason: &str| {
        let error = call(attributes, with_round).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    };
    for (place, reason) in [
        (0, "it begins with 0x4d2 instead of 0x524e584c"),
        (1, "expected version 6 of the plans, got 1234"),
        (2, "expected the plan of kernel 2, got that of kernel 1234"),
    ] {
        let mut plan = norm_backward(0, 1);
        plan[place] = 1234;
        let reason = format!("this call's plan is wrong: {reason}");
        refused(&format!("{{{}}}", attribute(&plan)), true, &reason);
    }
    let no_plan = "the call has no attribute `plan` that is an array of s32";
    for attributes in [
        "",
        "{plan = \"a text\"}",
        "{plan = array<i64: 1>}",
        "{other = array<i32: 1>}",
    ] {
        refused(attributes, true, no_plan);
    }
    let good = format!(
        "{{in_place = 2 : i64, {}}}",
        attribute(&norm_backward(0, 1))
    );
    let late = format!("{{{}}}", attribute(&norm_backward(8, 1)));
    refused(&late, true, "operand 1: expected 24 values, got 16");
    let elsewhere = format!("{{{}}}", attribute(&norm_backward(0, 1)));
    refused(
        &elsewhere,
        true,
        "result 0: expected the place of operand 2",
    );
    // Over what it reads.
    let over = format!(
        "{{in_place = 1 : i64, {}}}",
        attribute(&norm_backward(0, 0))
    );
    refused(&over, true, "result 0: expected a place of its own");
    let got = call(&good, true).unwrap();
    assert_eq!(got[0].len(), 16);
}
