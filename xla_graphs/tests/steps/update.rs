//! The state after a step: momentum, decay, average, penalty, and losses that are not finite.

use xla_graphs::ops::Lowering;
use xla_graphs::optimiser::{Optimiser, Updated};
use xla_graphs::table::{Role, slot_name};
use xla_graphs::{Model, average, model::metrics, train_step};

use crate::common::{self, array, arrays, execute_computation, initial};
use crate::trainer::{L2, LABELS, LEARNING_RATE, MOMENTUM, TRAINERS, Trainer, images, loss, model};

#[test]
fn the_second_step_carries_momentum_over() {
    for trainer in TRAINERS.iter() {
        let (first, _) = trainer.step(&initial(&trainer.layout), &images());
        let (second, _) = trainer.step(&first, &images());
        let mut without = first.clone();
        for (spec, values) in trainer.layout.state().iter().zip(&mut without) {
            if matches!(spec.role, Role::Slot(_)) {
                values.fill(0.0);
            }
        }
        let (fresh, _) = trainer.step(&without, &images());
        let name = "stage2/unit01/conv2/kernel";
        let (weight, slot) = (
            trainer.index(name),
            trainer.index(&slot_name("momentum", name)),
        );
        for element in 0..second[weight].len() {
            // v2 = 0.9 v1 - lr g, w2 = w1 + v2, and without momentum v = -lr g.
            let expected = MOMENTUM * first[slot][element] + fresh[slot][element];
            assert!((second[slot][element] - expected).abs() < 1e-6);
            let moved = first[weight][element] + second[slot][element];
            assert!((second[weight][element] - moved).abs() < 1e-6);
        }
    }
}

#[test]
fn decay_shrinks_the_kernels_alone_and_the_average_follows_the_weights() {
    const DECAY: f32 = 0.5;
    const KEPT: f64 = 0.75;
    let plain = &TRAINERS[0];
    let trainer = Trainer::new(Model {
        weight_decay: DECAY,
        averaging: Some(KEPT),
        ..plain.model.clone()
    });
    let names: Vec<&str> = (trainer.layout.arrays().iter().map(|array| array.name())).collect();
    assert_eq!(names, ["weights", "statistics", "momentum", "average"]);
    let before = initial(&trainer.layout);
    let (after, _) = trainer.step(&before, &images());
    let (expected, _) = plain.step(&before[..plain.layout.state().len()], &images());
    for (index, spec) in trainer.layout.network().iter().enumerate() {
        let Role::Weight { decays } = spec.role else {
            for (got, expected) in after[index].iter().zip(&expected[index]) {
                assert!((got - expected).abs() < 1e-6, "{}", spec.name);
            }
            continue;
        };
        assert_eq!(decays, spec.name.ends_with("kernel"), "{}", spec.name);
        let average = trainer.index(&slot_name(average::SLOT, &spec.name));
        for element in 0..spec.len() {
            let (old, got) = (before[index][element], after[index][element]);
            let lost = if decays {
                LEARNING_RATE * DECAY * old
            } else {
                0.0
            };
            let error = got - (expected[index][element] - lost);
            assert!(error.abs() < 1e-6, "{}: {got}", spec.name);
            let follows = 0.75 * before[average][element] + 0.25 * got;
            let error = after[average][element] - follows;
            assert!(error.abs() < 1e-6, "the average of {}", spec.name);
        }
    }
}

/// An optimiser with two slots that reads the number of the step: w' = w - rate · gradient · step,
/// a' = gradient, b' = a.
fn two_slots() -> Optimiser {
    let optimiser = Optimiser::new("two slots", &["a", "b"], |update| {
        let step = (update.gradient * update.step_count.unwrap())?;
        Ok(Updated {
            weights: (update.weights - (step * update.learning_rate)?)?,
            slots: vec![update.gradient.clone(), update.slots[0].clone()],
        })
    });
    optimiser.with_step_count()
}

#[test]
fn an_optimiser_brings_its_own_slots_and_may_read_the_number_of_the_step() {
    let model = Model {
        optimiser: two_slots(),
        ..model(Lowering::Dots)
    };
    let layout = model.layout();
    let names: Vec<&str> = layout.arrays().iter().map(|array| array.name()).collect();
    assert_eq!(names, ["weights", "statistics", "a", "b"]);
    let executable = common::compile(&train_step(&model).unwrap());
    let step = |state: &[Vec<f32>], number: f32| {
        let mut inputs = arrays(&layout, state);
        inputs.push(array("images", &model.image_dims(), &images()));
        let scalars = [
            array("lr", &[], &[LEARNING_RATE]),
            array("step", &[], &[number]),
        ];
        let mut outputs = execute_computation(&executable, &inputs, &LABELS, &scalars);
        outputs.pop();
        layout.split(&outputs)
    };
    let index = |name: &str| layout.state().iter().position(|t| t.name == name).unwrap();
    let weight = index("dense/kernel");
    let (a, b) = (index("a/dense/kernel"), index("b/dense/kernel"));
    let before = initial(&layout);
    let first = step(&before, 1.0);
    let second = step(&first, 2.0);
    assert!(first[a].iter().any(|v| *v != 0.0));
    assert!(first[b].iter().all(|v| *v == 0.0));
    assert_eq!(second[b], first[a]);
    for element in 0..first[weight].len() {
        let moved = first[weight][element] - 2.0 * LEARNING_RATE * second[a][element];
        assert!((second[weight][element] - moved).abs() < 1e-6);
    }
}

#[test]
fn the_penalty_counts_each_kernel_once_and_nothing_else() {
    for trainer in TRAINERS.iter() {
        let state = initial(&trainer.layout);
        let (_, metrics) = trainer.step(&state, &images());
        let kernels = trainer.layout.network().iter().zip(&state);
        let squares: f64 = kernels
            .filter(|(spec, _)| spec.name.ends_with("/kernel"))
            .flat_map(|(_, values)| values)
            .map(|&w| f64::from(w).powi(2))
            .sum();
        let expected = f64::from(L2) * squares;
        let got = f64::from(metrics[metrics::PENALTY]);
        assert!((got / expected - 1.0).abs() < 1e-5, "{got} {expected}");
    }
}

#[test]
fn a_loss_that_is_not_finite_leaves_every_bit_of_the_state() {
    for trainer in TRAINERS.iter() {
        let state = initial(&trainer.layout);
        for poison in [f32::NAN, f32::INFINITY, 1e38] {
            let mut images = images();
            images[5] = poison;
            let (next, metrics) = trainer.step(&state, &images);
            assert!(!loss(&metrics).is_finite(), "{poison}: {metrics:?}");
            assert!(next == state, "{poison} changed the state");
        }
    }
}
