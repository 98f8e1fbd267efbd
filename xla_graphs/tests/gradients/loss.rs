//! Cross entropy and the L2 penalty.

use xla::{ElementType, XlaOp};
use xla_graphs::Result;
use xla_graphs::ops::loss::{self, Loss};

use crate::common::{Graph, Input, check_gradients, input};
use crate::only;

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

/// The gradient of the mean `loss` of `logits` `[N, classes]`.
fn check_mean(logits: Input, loss: impl Fn(&XlaOp) -> Result<Loss>) {
    let dims: Vec<_> = logits.dims.iter().map(|size| *size as i64).collect();
    let images = logits.dims[0];
    check_gradients(
        &[logits],
        &["z"],
        |t| Ok(loss(t.get("z")?)?.cross_entropy.reduce_mean(&[0], false)?),
        |t, dy| {
            let dz = loss::backward(&loss(t.get("z")?)?, images)?;
            only("z", (dz * dy.broadcast(&dims)?)?)
        },
    );
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
    check_mean(logits, loss);
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
    check_mean(logits, loss);
}

#[test]
fn softmax_cross_entropy() {
    for (batch, classes) in [(6, 4), (1, 3), (3, 1)] {
        let mut logits = input("z", &[batch, classes]);
        logits.values.iter_mut().for_each(|v| *v *= 3.0);
        check_mean(logits, |z| loss::forward(z, &labels(z)?, None, 0.0));
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
