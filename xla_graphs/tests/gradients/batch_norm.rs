//! Batch norm.

use xla_graphs::collective::Replicas;
use xla_graphs::ops::Lowering;
use xla_graphs::ops::batch_norm::{BatchNorm, EPSILON, MOMENTUM, moved};
use xla_graphs::tensors::Tensors;

use crate::common::{Graph, Input, check_gradients, input};

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
