//! Evaluation.

use xla_graphs::eval_step;
use xla_graphs::model::metrics;

use crate::common::{self, array, arrays, execute_computation, initial, lowerings};
use crate::trainer::{BATCH, CLASSES, LABELS, SIDE, images, model};

#[test]
fn padding_counts_for_nothing_in_evaluation() {
    for model in lowerings().into_iter().map(model) {
        let layout = model.layout();
        let state = initial(&layout);
        let executable = common::compile(&eval_step(&model).unwrap());
        let evaluate = |images: &[f32], weights: &[f32; BATCH]| {
            let mut inputs = arrays(&layout, &state[..layout.network().len()]);
            inputs.push(array("images", &model.image_dims(), images));
            execute_computation(
                &executable,
                &inputs,
                &LABELS,
                &[array("weights", &[BATCH], weights)],
            )
        };
        let images = images();
        let whole = evaluate(&images, &[1.0; BATCH]);
        let logits = whole[1].as_chunks::<CLASSES>().0;
        let cross_entropy = |i: usize| {
            let row: Vec<f64> = logits[i].iter().map(|&z| f64::from(z)).collect();
            row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[LABELS[i] as usize]
        };
        let correct = |i: usize| {
            let best = |a: &usize, b: &usize| logits[i][*a].total_cmp(&logits[i][*b]);
            f32::from((0..CLASSES).max_by(best) == Some(LABELS[i] as usize))
        };
        for (weights, counted) in [([1.0; BATCH], 4), ([1.0, 1.0, 0.0, 0.0], 2)] {
            let mut padded = images.clone();
            padded[counted * SIDE * SIDE * 3..].fill(0.0);
            let metrics = &evaluate(&padded, &weights)[0];
            let expected: f64 = (0..counted).map(cross_entropy).sum();
            let got = f64::from(metrics[metrics::CROSS_ENTROPY_SUM]);
            assert!((got - expected).abs() < 1e-5 * expected, "{got} {expected}");
            assert_eq!(
                metrics[metrics::CORRECT],
                (0..counted).map(correct).sum::<f32>()
            );
            assert_eq!(metrics[metrics::COUNT], counted as f32);
        }
    }
}
