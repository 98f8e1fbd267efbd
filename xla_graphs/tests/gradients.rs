//! Every layer's backward pass against central differences of its forward pass.

mod common;

use common::{Graph, Input, check_gradients, input};
use xla::{ElementType, XlaOp};
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::batch_norm::{BatchNorm, EPSILON, MOMENTUM, moved};
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::widen::Widen;
use xla_graphs::ops::{Lowering, loss, max_pool, overlapping_pool, pool, relu};
use xla_graphs::tensors::Tensors;

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

/// The inputs of a batch norm named `b` on images [n, h, h, c].
fn batch_norm_inputs(n: usize, h: usize, c: usize) -> [Input; 5] {
    let mut variance = input("b/moving_variance", &[c]);
    variance.values.iter_mut().for_each(|v| *v = v.abs() + 0.5);
    [
        input("x", &[n, h, h, c]),
        input("b/gamma", &[c]),
        input("b/beta", &[c]),
        input("b/moving_mean", &[c]),
        variance,
    ]
}

fn batch_norm(channels: usize, lowering: Lowering) -> BatchNorm {
    BatchNorm {
        name: "b".into(),
        channels,
        epsilon: EPSILON,
        lowering,
    }
}

#[test]
fn batch_norm_in_training() {
    for (n, h, c, lowering) in [
        (3, 4, 5, Lowering::Native),
        (3, 4, 5, Lowering::Dots),
        (1, 3, 1, Lowering::Dots),
        (5, 1, 9, Lowering::Dots),
        (1, 1, 3, Lowering::Native),
        (1, 1, 3, Lowering::Dots),
    ] {
        let bn = batch_norm(c, lowering);
        let forward = |t: &Tensors| bn.forward(t, t.get("x")?, Replicas(1), &mut Tensors::new());
        check_gradients(
            &batch_norm_inputs(n, h, c),
            &["x", "b/gamma", "b/beta"],
            |t| Ok(forward(t)?.0),
            |t, dy| {
                let mut gradients = Tensors::new();
                let (_, saved) = forward(t)?;
                let dx = bn.backward(t, &saved, dy, Replicas(1), &mut gradients)?;
                gradients.insert("x", dx);
                Ok(gradients)
            },
        );
    }
}

#[test]
fn batch_norm_has_the_mean_and_biased_variance_of_the_batch() {
    let inputs = batch_norm_inputs(4, 3, 2);
    let bn = batch_norm(2, Lowering::Dots);
    let graph = Graph::new(&inputs, |t| {
        let mut batch = Tensors::new();
        let (y, _) = bn.forward(t, t.get("x")?, Replicas(1), &mut batch)?;
        let moved = |name| moved(t.get(name)?, batch.get(name)?, MOMENTUM);
        Ok(vec![
            y,
            moved("b/moving_mean")?,
            moved("b/moving_variance")?,
        ])
    });
    let outputs = graph.run(&inputs);
    let value = |name: &str, i: usize| {
        let input = inputs.iter().find(|i| i.name == name).unwrap();
        f64::from(input.values[i])
    };
    for channel in 0..2 {
        let x: Vec<f64> = (0..36).map(|i| value("x", 2 * i + channel)).collect();
        let mean = x.iter().sum::<f64>() / 36.0;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 36.0;
        let close = |got: f32, expected: f64| {
            assert!((f64::from(got) - expected).abs() < 2e-6, "{got} {expected}");
        };
        let y = (x[7] - mean) / (variance + 1e-3).sqrt();
        let scaled = y * value("b/gamma", channel) + value("b/beta", channel);
        close(outputs[0][14 + channel], scaled);
        close(
            outputs[1][channel],
            0.99 * value("b/moving_mean", channel) + 0.01 * mean,
        );
        let moving = value("b/moving_variance", channel);
        close(outputs[2][channel], 0.99 * moving + 0.01 * variance);
    }
}

#[test]
fn batch_norm_in_inference_reads_the_moving_statistics() {
    for (n, h, c, epsilon) in [(2, 3, 5, 1e-3), (2, 3, 5, 0.5), (1, 1, 1, 1e-3)] {
        let inputs = batch_norm_inputs(n, h, c);
        let bn = BatchNorm {
            epsilon,
            ..batch_norm(c, Lowering::Dots)
        };
        let graph = Graph::new(&inputs, |t| Ok(vec![bn.infer(t, t.get("x")?)?]));
        let y = graph.run(&inputs).remove(0);
        let [x, gamma, beta, mean, variance] = inputs.map(|input| input.values);
        assert_eq!(y.len(), n * h * h * c);
        for (index, (got, x)) in y.iter().zip(x).enumerate() {
            let of = |values: &[f32]| f64::from(values[index % c]);
            let epsilon = f64::from(epsilon);
            let x_hat = (f64::from(x) - of(&mean)) / (of(&variance) + epsilon).sqrt();
            let expected = of(&gamma) * x_hat + of(&beta);
            assert!(
                (f64::from(*got) - expected).abs() < 1e-6,
                "{got} {expected}"
            );
        }
    }
}

#[test]
fn batch_norm_keeps_its_digits_far_from_zero() {
    // With values around 1000 and the pivot there too, one pass must not cancel.
    let mut inputs = batch_norm_inputs(8, 4, 1);
    inputs[0].values.iter_mut().for_each(|v| *v += 1000.0);
    inputs[3].values[0] = 1000.5;
    let bn = batch_norm(1, Lowering::Dots);
    let graph = Graph::new(&inputs, |t| {
        let mut batch = Tensors::new();
        bn.forward(t, t.get("x")?, Replicas(1), &mut batch)?;
        Ok(vec![batch.get("b/moving_variance")?.clone()])
    });
    let variance = f64::from(graph.run(&inputs)[0][0]);
    let x: Vec<f64> = inputs[0].values.iter().map(|&v| f64::from(v)).collect();
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let expected = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
    assert!((variance - expected).abs() < 1e-4, "{variance} {expected}");
}

#[test]
fn dense_layer() {
    for (batch, inputs, outputs) in [(5, 7, 3), (1, 1, 1), (1, 9, 2)] {
        let dense = Dense {
            name: "d".into(),
            inputs,
            outputs,
        };
        check_gradients(
            &[
                input("x", &[batch, inputs]),
                input("d/kernel", &[inputs, outputs]),
                input("d/bias", &[outputs]),
            ],
            &["x", "d/kernel", "d/bias"],
            |t| dense.forward(t, t.get("x")?),
            |t, dy| {
                let mut gradients = Tensors::new();
                let dx = dense.backward(t, t.get("x")?, dy, &mut gradients)?;
                gradients.insert("x", dx);
                Ok(gradients)
            },
        );
    }
}

#[test]
fn rectified_linear_unit_away_from_its_kink() {
    let mut x = input("x", &[2, 3, 3, 5]);
    // Central differences are meaningless within a step of the kink.
    x.values.iter_mut().for_each(|v| *v += 0.05f32.copysign(*v));
    check_gradients(
        &[x],
        &["x"],
        |t| relu::forward(t.get("x")?),
        |t, dy| only("x", relu::backward(&relu::forward(t.get("x")?)?, dy)?),
    );
}

#[test]
fn at_its_kink_the_rectified_linear_unit_has_slope_zero_as_in_tensorflow() {
    let x = Input {
        name: "x",
        dims: vec![3],
        values: vec![-0.0, 0.0, 1e-30],
    };
    let graph = Graph::new(std::slice::from_ref(&x), |t| {
        let y = relu::forward(t.get("x")?)?;
        let dy = y.builder().c0(1f32)?.broadcast(&[3])?;
        Ok(vec![relu::backward(&y, &dy)?])
    });
    assert_eq!(graph.run(&[x])[0], [0.0, 0.0, 1.0]);
}

#[test]
fn global_average_pooling() {
    for dims in [[2, 3, 3, 5], [1, 1, 1, 2], [1, 5, 2, 1]] {
        check_gradients(
            &[input("x", &dims)],
            &["x"],
            |t| pool::forward(t.get("x")?),
            |_, dy| only("x", pool::backward(&dims, dy)?),
        );
    }
}

#[test]
fn max_pooling_takes_the_first_of_the_largest_and_sends_its_gradient_there_alone() {
    for dims in [[2, 4, 6, 3], [1, 5, 7, 2], [3, 2, 2, 1]] {
        let mut x = input("x", &dims);
        // Many values in a square are equal.
        x.values.iter_mut().for_each(|v| *v = (*v * 3.0).round());
        let [n, h, w, c] = dims;
        let dy = input("dy", &[n, h / 2, w / 2, c]);
        let inputs = [x.clone(), dy.clone()];
        let graph = Graph::new(&inputs, |t| {
            let (y, saved) = max_pool::forward(t.get("x")?)?;
            Ok(vec![y, max_pool::backward(&saved, t.get("dy")?)?])
        });
        let mut expected = [Vec::new(), vec![0.0; x.values.len()]];
        for (number, gradient) in dy.values.iter().enumerate() {
            let (column, channel) = (number / c % (w / 2), number % c);
            let (row, image) = (
                number / c / (w / 2) % (h / 2),
                number / c / (w / 2) / (h / 2),
            );
            let at =
                |a: usize, b: usize| ((image * h + 2 * row + a) * w + 2 * column + b) * c + channel;
            let mut best = at(0, 0);
            for other in [at(0, 1), at(1, 0), at(1, 1)] {
                if x.values[other] > x.values[best] {
                    best = other;
                }
            }
            expected[0].push(x.values[best]);
            expected[1][best] = *gradient;
        }
        assert_eq!(graph.run(&inputs), expected, "{dims:?}");
    }
}

#[test]
fn overlapping_pooling_takes_the_first_of_the_largest_and_sends_its_gradient_there() {
    for (dims, padding) in [
        ([2, 4, 6, 3], Padding::Far),
        ([1, 5, 7, 2], Padding::Far),
        ([2, 1, 2, 1], Padding::Far),
        ([2, 4, 6, 3], Padding::Near),
        ([1, 5, 2, 2], Padding::Near),
    ] {
        let mut x = input("x", &dims);
        // Many values in a square are equal.
        x.values.iter_mut().for_each(|v| *v = (*v * 3.0).round());
        let [n, h, w, c] = dims;
        let dy = input("dy", &[n, h.div_ceil(2), w.div_ceil(2), c]);
        let inputs = [x.clone(), dy.clone()];
        let graph = Graph::new(&inputs, |t| {
            let (y, saved) = overlapping_pool::forward(t.get("x")?, padding)?;
            Ok(vec![y, overlapping_pool::backward(&saved, t.get("dy")?)?])
        });
        let mut expected = [Vec::new(), vec![0.0; x.values.len()]];
        for (number, gradient) in dy.values.iter().enumerate() {
            let (column, channel) = (number / c % w.div_ceil(2), number % c);
            let row = number / c / w.div_ceil(2) % h.div_ceil(2);
            let image = number / c / w.div_ceil(2) / h.div_ceil(2);
            // Where the size is odd, the padding begins with a pixel; where it is even, that is all on one side.
            let before = |size: usize| usize::from(size % 2 == 1 || padding == Padding::Near);
            let range = |place: usize, size: usize| {
                let end = 2 * place + 3 - before(size);
                end.saturating_sub(3)..end.min(size)
            };
            let (rows, columns) = (range(row, h), range(column, w));
            let at = |i: usize, j: usize| ((image * h + i) * w + j) * c + channel;
            let mut best = at(rows.start, columns.start);
            for i in rows {
                for other in columns.clone().map(|j| at(i, j)) {
                    if x.values[other] > x.values[best] {
                        best = other;
                    }
                }
            }
            expected[0].push(x.values[best]);
            expected[1][best] += *gradient;
        }
        let got = graph.run(&inputs);
        assert_eq!(got[0], expected[0], "{dims:?}");
        for (got, expected) in got[1].iter().zip(&expected[1]) {
            assert!((got - expected).abs() < 1e-6, "{dims:?}: {got} {expected}");
        }
    }
}

#[test]
fn a_shortcut_of_fewer_pixels_and_more_channels() {
    for (dims, stride, outputs) in [
        ([2, 4, 6, 3], 2, 5),
        ([1, 5, 3, 2], 2, 2),
        ([1, 3, 3, 2], 1, 4),
    ] {
        let widen = Widen {
            stride,
            inputs: dims[3],
            outputs,
        };
        check_gradients(
            &[input("x", &dims)],
            &["x"],
            |t| widen.forward(t.get("x")?),
            |_, dy| only("x", widen.backward(&dims, dy)?),
        );
    }
}

/// Labels 0, 1, 2, … modulo the number of classes, as a graph value.
fn labels(logits: &XlaOp) -> Result<XlaOp> {
    let dims = logits.dims()?;
    let builder = logits.builder();
    let index = builder.iota1(ElementType::S32, dims[0])?;
    Ok(index.rem_(&builder.c0(dims[1] as i32)?.broadcast(&[dims[0] as i64])?)?)
}

/// The cross-entropy of an image's logits in f64, as PyTorch documents `label_smoothing`: the label's loss and the
/// mean over all classes, mixed.
fn smoothed_loss(logits: &[f32], label: usize, smoothing: f64) -> f64 {
    let row: Vec<f64> = logits.iter().map(|z| f64::from(*z)).collect();
    let log_sum = row.iter().map(|z| z.exp()).sum::<f64>().ln();
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    (1.0 - smoothing) * (log_sum - row[label]) + smoothing * (log_sum - mean)
}

#[test]
fn smoothed_cross_entropy() {
    const SMOOTHING: f32 = 0.2;
    let (batch, classes) = (6, 4);
    let logits = input("z", &[batch, classes]);
    let loss = |z: &XlaOp| loss::forward(z, &labels(z)?, None, SMOOTHING);
    let graph = Graph::new(std::slice::from_ref(&logits), |t| {
        Ok(vec![loss(t.get("z")?)?.cross_entropy])
    });
    let got = graph.run(std::slice::from_ref(&logits)).remove(0);
    for (image, (row, got)) in logits.values.chunks(classes).zip(got).enumerate() {
        let expected = smoothed_loss(row, image % classes, 0.2);
        assert!((f64::from(got) - expected).abs() < 1e-6, "{got} {expected}");
    }
    check_gradients(
        &[logits],
        &["z"],
        |t| Ok(loss(t.get("z")?)?.cross_entropy.reduce_mean(&[0], false)?),
        |t, dy| {
            let dz = loss::backward(&loss(t.get("z")?)?, batch)?;
            only("z", (&dz * dy.broadcast_in_dim(&[6, 4], &[])?)?)
        },
    );
}

#[test]
fn cross_entropy_of_two_labels_is_the_mean_of_that_of_each_by_their_shares() {
    const SMOOTHING: f32 = 0.1;
    let (batch, classes) = (4, 5);
    let seconds = [2i32, 1, 0, 4];
    let shares = [0.75f32, 0.5, 1.0, 0.0];
    let logits = input("z", &[batch, classes]);
    let loss = |z: &XlaOp| {
        let builder = z.builder();
        let mixed = loss::Mixed {
            others: builder.c1(&seconds)?,
            shares: builder.c1(&shares)?,
        };
        loss::forward(z, &labels(z)?, Some(&mixed), SMOOTHING)
    };
    let graph = Graph::new(std::slice::from_ref(&logits), |t| {
        let loss = loss(t.get("z")?)?;
        Ok(vec![loss.cross_entropy, loss.correct])
    });
    let [got, correct] = graph.run(std::slice::from_ref(&logits)).try_into().unwrap();
    for (image, row) in logits.values.chunks(classes).enumerate() {
        // mixup's criterion: share * loss(first) + (1 - share) * loss(second), each smoothed.
        let of = |label: usize| smoothed_loss(row, label, 0.1);
        let share = f64::from(shares[image]);
        let expected = share * of(image) + (1.0 - share) * of(seconds[image] as usize);
        let error = f64::from(got[image]) - expected;
        assert!(error.abs() < 1e-6, "{} {expected}", got[image]);
        let first_wins = row.iter().all(|z| *z <= row[image]);
        assert_eq!(correct[image] == 1.0, first_wins);
    }
    check_gradients(
        &[logits],
        &["z"],
        |t| Ok(loss(t.get("z")?)?.cross_entropy.reduce_mean(&[0], false)?),
        |t, dy| {
            let dz = loss::backward(&loss(t.get("z")?)?, batch)?;
            only("z", (&dz * dy.broadcast_in_dim(&[4, 5], &[])?)?)
        },
    );
}

#[test]
fn softmax_cross_entropy() {
    for (batch, classes) in [(6, 4), (1, 3), (3, 1)] {
        let mut logits = input("z", &[batch, classes]);
        logits.values.iter_mut().for_each(|v| *v *= 3.0);
        let mean = |t: &Tensors| {
            let z = t.get("z")?;
            let loss = loss::forward(z, &labels(z)?, None, 0.0)?;
            Ok(loss.cross_entropy.reduce_mean(&[0], false)?)
        };
        check_gradients(&[logits], &["z"], mean, |t, dy| {
            let z = t.get("z")?;
            let dz = loss::backward(&loss::forward(z, &labels(z)?, None, 0.0)?, batch)?;
            let spread = dy.broadcast(&[batch as i64, classes as i64])?;
            only("z", (dz * spread)?)
        });
    }
}

#[test]
fn cross_entropy_of_huge_logits_is_finite_and_right() {
    let logits = Input {
        name: "z",
        dims: vec![2, 3],
        values: vec![1e4, 0.0, 0.0, 1e4, 0.0, 0.0],
    };
    let graph = Graph::new(std::slice::from_ref(&logits), |t| {
        let z = t.get("z")?;
        let loss = loss::forward(z, &labels(z)?, None, 0.0)?;
        Ok(vec![loss.cross_entropy, loss.correct])
    });
    let outputs = graph.run(std::slice::from_ref(&logits));
    assert_eq!(outputs[0], [0.0, 1e4]);
    assert_eq!(outputs[1], [1.0, 0.0]);
}

#[test]
fn l2_penalty_of_the_weights_that_decay() {
    const STRENGTH: f32 = 0.3;
    const DECAYING: usize = 5;
    check_gradients(
        &[input("w", &[8])],
        &["w"],
        |t| Ok(loss::l2_penalty(t.get("w")?, DECAYING, STRENGTH)?.reshape(&[1])?),
        |t, dy| {
            let w = t.get("w")?;
            let slope = loss::l2_gradient(w, &w.zeros_like()?, DECAYING, STRENGTH)?;
            let dy = dy.broadcast_in_dim(&[8], &[0])?;
            only("w", (slope * dy)?)
        },
    );
}

fn only(name: &str, gradient: XlaOp) -> Result<Tensors> {
    let mut gradients = Tensors::new();
    gradients.insert(name, gradient);
    Ok(gradients)
}
