//! The whole training and evaluation steps of a small network.

mod common;

use std::sync::LazyLock;

use common::{
    ROUNDING, array, arrays, execute_computation, initial, input, lowerings, without_kinks,
};
use xla_graphs::average;
use xla_graphs::collective::Replicas;
use xla_graphs::model::metrics;
use xla_graphs::network::{Block, Downsampling, Stage, Stem, Units, Version};
use xla_graphs::ops::{Lowering, batch_norm};
use xla_graphs::optimiser::{self, Optimiser, Updated};
use xla_graphs::table::{Role, slot_name};
use xla_graphs::{Architecture, Layout, Model, Precision, ResNet, eval_step, train_step};

const BATCH: usize = 4;
const SIDE: usize = 8;
const CLASSES: usize = 10;
const LABELS: [i32; BATCH] = [3, 0, 9, 3];
const LEARNING_RATE: f32 = 0.1;
const MOMENTUM: f32 = 0.9;
const L2: f32 = 1e-2;

fn model(lowering: Lowering) -> Model {
    Model {
        network: ResNet::new(&Architecture::resnet_v2(11).unwrap(), CLASSES, lowering).unwrap(),
        batch: BATCH,
        image_side: SIDE,
        replicas: Replicas(1),
        sync_batch_norm: true,
        l2: L2,
        bn_momentum: batch_norm::MOMENTUM,
        label_smoothing: 0.0,
        mixes_labels: false,
        weight_decay: 0.0,
        averaging: None,
        optimiser: optimiser::sgd(MOMENTUM),
    }
}

fn images() -> Vec<f32> {
    input("images", &[BATCH * SIDE * SIDE * 3]).values
}

/// Compiling takes most of the time of these tests: they share the executables.
static TRAINERS: LazyLock<Vec<Trainer>> = LazyLock::new(|| {
    lowerings()
        .into_iter()
        .map(model)
        .map(Trainer::new)
        .collect()
});

/// Runs training steps on one fixed batch.
struct Trainer {
    model: Model,
    layout: Layout,
    executable: xla::PjRtLoadedExecutable,
}

impl Trainer {
    fn new(model: Model) -> Self {
        Self {
            layout: model.layout(),
            executable: common::compile(&train_step(&model).unwrap()),
            model,
        }
    }

    /// The next state and the metrics.
    fn step(&self, state: &[Vec<f32>], images: &[f32]) -> (Vec<Vec<f32>>, Vec<f32>) {
        let mut inputs = arrays(&self.layout, state);
        inputs.push(array("images", &self.model.image_dims(), images));
        let mut outputs = execute_computation(
            &self.executable,
            &inputs,
            &LABELS,
            &[array("lr", &[], &[LEARNING_RATE])],
        );
        let metrics = outputs.pop().unwrap();
        (self.layout.split(&outputs), metrics)
    }

    fn index(&self, name: &str) -> usize {
        self.layout
            .state()
            .iter()
            .position(|t| t.name == name)
            .unwrap()
    }
}

/// The loss that Keras prints, from a metrics vector.
fn loss(metrics: &[f32]) -> f64 {
    f64::from(metrics[metrics::CROSS_ENTROPY_SUM]) / BATCH as f64
        + f64::from(metrics[metrics::PENALTY])
}

#[test]
fn every_kind_of_weight_moves_against_its_central_difference() {
    for trainer in TRAINERS.iter() {
        let state = without_kinks(&trainer.layout, initial(&trainer.layout));
        let (next, _) = trainer.step(&state, &images());
        for name in [
            "conv_in/kernel",
            "stage1/unit01/bn1/gamma",
            "stage1/unit01/shortcut/kernel",
            "stage2/unit01/conv1/kernel",
            "stage2/unit01/conv2/kernel",
            "stage3/unit01/bn2/beta",
            "bn_out/beta",
            "dense/kernel",
            "dense/bias",
        ] {
            check_gradient(trainer, &state, &next, name);
        }
    }
}

/// Checks the largest element of the gradient of the weight `name` in a first step from `state` to
/// `next` against its central difference.
fn check_gradient(trainer: &Trainer, state: &[Vec<f32>], next: &[Vec<f32>], name: &str) {
    check_gradient_of(trainer, state, next, &images(), name);
}

/// [`check_gradient`] on other images.
fn check_gradient_of(
    trainer: &Trainer,
    state: &[Vec<f32>],
    next: &[Vec<f32>],
    images: &[f32],
    name: &str,
) {
    let weight = trainer.index(name);
    let slot = trainer.index(&slot_name("momentum", name));
    // The first step's velocity is -learning_rate * gradient.
    let gradient: Vec<f64> = next[slot]
        .iter()
        .map(|v| -f64::from(*v) / f64::from(LEARNING_RATE))
        .collect();
    let largest = gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
    let element = gradient.iter().position(|g| g.abs() == largest).unwrap();
    // A quotient is off by 1e-4 at most, whatever the gradient.
    let scale = largest.max(0.02);
    let at = |shift: f32| {
        let mut shifted = state.to_vec();
        shifted[weight][element] += shift;
        loss(&trainer.step(&shifted, images).1)
    };
    // The loss is off by a rounding of some 1e-6, and that over the distance; nothing here is so curved as to need
    // a shorter one.
    const STEP: f32 = 2e-2;
    let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
    let error = (numeric - gradient[element]).abs() / scale;
    println!("{name}: {error:.1e} of {scale:.1e}");
    assert!(error < 0.02, "{name}: {} but {numeric}", gradient[element]);
}

#[test]
fn units_of_another_kind_train_one_by_one_and_in_a_loop() {
    let mut architecture = Architecture::resnet_v2(11).unwrap();
    let stage = |units, width, stride| Stage {
        units,
        width,
        stride,
    };
    // Three equal units without a shortcut, the last two of them a loop, and one with a projection.
    architecture.stages = vec![stage(3, 16, 1), stage(1, 32, 2)];
    architecture.block = Block::Basic;
    let network = ResNet::new(&architecture, CLASSES, Lowering::Dots).unwrap();
    let trainer = Trainer::new(Model {
        network: network.with_units(Units::Loop),
        ..model(Lowering::Dots)
    });
    let state = without_kinks(&trainer.layout, initial(&trainer.layout));
    let (next, _) = trainer.step(&state, &images());
    for name in [
        "stage1/unit01/conv1/kernel",
        "stage1/unit02/conv1/kernel",
        "stage1/unit03/conv2/kernel",
        "stage1/unit03/bn2/gamma",
        "stage2/unit01/conv1/kernel",
        "stage2/unit01/shortcut/kernel",
    ] {
        check_gradient(&trainer, &state, &next, name);
    }
}

/// A network that pools, on images of 16 pixels' side: its last ones have 2.
fn fast(lowering: Lowering) -> Model {
    let architecture = Architecture::fast([16, 32, 32], 2);
    Model {
        network: ResNet::new(&architecture, CLASSES, lowering).unwrap(),
        image_side: 2 * SIDE,
        label_smoothing: 0.2,
        ..model(lowering)
    }
}

#[test]
fn a_network_that_pools_takes_the_same_step_in_every_formulation() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    let step = |model: Model| {
        let trainer = Trainer::new(model);
        let state = without_kinks(&trainer.layout, initial(&trainer.layout));
        let (next, _) = trainer.step(&state, &images);
        (trainer, state, next)
    };
    let (native, state, expected) = step(fast(Lowering::Native));
    assert_eq!(native.model.network.depth, 1 + 3 * (1 + 2) + 1);
    // What lies behind the last pooling has no kinks.
    for name in ["stage3/unit02/conv1/kernel", "bn_out/beta", "dense/kernel"] {
        check_gradient_of(&native, &state, &expected, &images, name);
    }
    for lowering in lowerings() {
        let (trainer, _, got) = step(fast(lowering));
        for (spec, (got, expected)) in trainer.layout.state().iter().zip(got.iter().zip(&expected))
        {
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (got, expected) in got.iter().zip(expected) {
                // Where the terms of a gradient cancel, the rounding of the terms stays: they are about 0.1 large, and
                // the slot has the rate's share of them.
                let error = (got - expected).abs() / largest.max(0.1 * LEARNING_RATE);
                assert!(
                    error < ROUNDING,
                    "{lowering:?} {}: {got} {expected}",
                    spec.name
                );
            }
        }
    }
}

/// A network of basic blocks with `shortcuts`, behind `stem`, on images of 16 pixels' side.
fn basic(stem: Stem, shortcuts: Downsampling, lowering: Lowering) -> Model {
    let architecture =
        Architecture::of_stages(stem, Block::Basic, &[2, 1], &[16, 32], shortcuts).unwrap();
    Model {
        network: ResNet::new(&architecture, CLASSES, lowering).unwrap(),
        image_side: 2 * SIDE,
        ..model(lowering)
    }
}

#[test]
fn blocks_of_every_kind_move_against_their_central_difference_in_every_formulation() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    let large = Stem {
        filters: 16,
        ..Stem::IMAGENET
    };
    for lowering in lowerings() {
        for (stem, shortcuts, names) in [
            (
                Stem::small(16),
                Downsampling::UnitOfZeros,
                ["conv_in/kernel", "stage2/unit01/conv1/kernel"],
            ),
            (
                large,
                Downsampling::Unit,
                [
                    "stage1/unit02/conv2/kernel",
                    "stage2/unit01/shortcut/kernel",
                ],
            ),
        ] {
            let trainer = Trainer::new(basic(stem, shortcuts, lowering));
            let state = without_kinks(&trainer.layout, initial(&trainer.layout));
            let (next, metrics) = trainer.step(&state, &images);
            for name in names {
                check_gradient_of(&trainer, &state, &next, &images, name);
            }
            let model = trainer.model.clone();
            let rounded = Trainer::new(Model {
                network: model.network.with_precision(Precision::Bf16),
                ..model
            });
            let (_, of_bf16) = rounded.step(&state, &images);
            let error = loss(&of_bf16) / loss(&metrics) - 1.0;
            assert!(error.abs() < 0.01, "{lowering:?}: {error}");
        }
    }
}

/// A network of version 1 of units of `block` with `shortcuts`, on images of 16 pixels' side. Its stem does not pool: the
/// weights before a maximum have kinks.
fn v1(block: Block, shortcuts: Downsampling, lowering: Lowering) -> Model {
    let stem = Stem::small(16);
    let architecture = Architecture {
        version: Version::V1,
        ..Architecture::of_stages(stem, block, &[2, 1], &[16, 32], shortcuts).unwrap()
    };
    Model {
        network: ResNet::new(&architecture, CLASSES, lowering).unwrap(),
        image_side: 2 * SIDE,
        ..model(lowering)
    }
}

#[test]
fn blocks_of_version_1_move_against_their_central_difference() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    let shared = [
        "conv_in/kernel",
        "bn_in/gamma",
        "stage1/unit01/conv1/kernel",
        "stage1/unit02/bn2/beta",
        "stage2/unit01/conv1/kernel",
        "stage2/unit01/conv2/kernel",
        "dense/kernel",
    ];
    let projected = [
        "stage2/unit01/shortcut/kernel",
        "stage2/unit01/bn_skip/gamma",
    ];
    for (block, shortcuts, more) in [
        (Block::Basic, Downsampling::Unit, &projected[..]),
        (Block::Basic, Downsampling::UnitOfZeros, &[]),
        (Block::Bottleneck, Downsampling::Unit, &projected),
    ] {
        for lowering in [Lowering::Native, Lowering::Dots] {
            let trainer = Trainer::new(v1(block, shortcuts, lowering));
            let state = without_kinks(&trainer.layout, initial(&trainer.layout));
            let (next, metrics) = trainer.step(&state, &images);
            for name in shared.iter().chain(more) {
                check_gradient_of(&trainer, &state, &next, &images, name);
            }
            let model = trainer.model.clone();
            let rounded = Trainer::new(Model {
                network: model.network.with_precision(Precision::Bf16),
                ..model
            });
            let (_, of_bf16) = rounded.step(&state, &images);
            let error = loss(&of_bf16) / loss(&metrics) - 1.0;
            assert!(error.abs() < 0.01, "{block} {lowering:?}: {error}");
        }
    }
}

#[test]
fn a_frozen_stem_of_version_1_keeps_its_batch_norm_too() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    let plain = v1(Block::Basic, Downsampling::Unit, Lowering::Dots);
    let trainer = Trainer::new(Model {
        network: plain.network.clone().with_frozen(Some(0)),
        ..plain
    });
    let state = without_kinks(&trainer.layout, initial(&trainer.layout));
    let (next, _) = trainer.step(&state, &images);
    check_gradient_of(
        &trainer,
        &state,
        &next,
        &images,
        "stage1/unit01/conv1/kernel",
    );
    for (index, spec) in trainer.layout.network().iter().enumerate() {
        let is_frozen = ["conv_in/", "bn_in/"]
            .iter()
            .any(|layer| spec.name.starts_with(layer));
        assert_eq!(state[index] == next[index], is_frozen, "{}", spec.name);
    }
}

#[test]
fn what_no_network_of_version_1_has_is_refused() {
    let mut architecture = Architecture::v1(Block::Basic, &[1], &[16]).unwrap();
    let refused = |architecture: &Architecture, lowering| {
        let network = ResNet::new(architecture, CLASSES, lowering);
        network.unwrap_err().to_string()
    };
    let message = refused(&architecture, Lowering::Kernels);
    assert!(message.contains("got kernels"), "{message}");
    architecture.downsampling = Downsampling::Pool;
    let message = refused(&architecture, Lowering::Native);
    assert!(message.contains("got pooling"), "{message}");
}

#[test]
fn frozen_layers_keep_every_bit_and_the_others_move_against_their_central_difference() {
    for lowering in lowerings() {
        for (stages, prefixes) in [(0, &["conv_in/"][..]), (1, &["conv_in/", "stage1/"])] {
            let plain = model(lowering);
            let trainer = Trainer::new(Model {
                network: plain.network.clone().with_frozen(Some(stages)),
                weight_decay: 1e-3,
                averaging: Some(0.75),
                ..plain
            });
            let state = without_kinks(&trainer.layout, initial(&trainer.layout));
            let (next, _) = trainer.step(&state, &images());
            for name in ["stage2/unit01/conv2/kernel", "bn_out/beta", "dense/kernel"] {
                check_gradient(&trainer, &state, &next, name);
            }
            // With all slots at work.
            let mut state = next;
            for (spec, values) in trainer.layout.state().iter().zip(&mut state) {
                if matches!(spec.role, Role::Slot(_)) {
                    *values = input("slots", &[spec.len()]).values;
                }
            }
            let (next, _) = trainer.step(&state, &images());
            for (index, spec) in trainer.layout.state().iter().enumerate() {
                let mut slots = ["momentum/", "average/"].into_iter();
                let layer = slots.find_map(|slot| spec.name.strip_prefix(slot));
                let layer = layer.unwrap_or(&spec.name);
                let is_frozen = prefixes.iter().any(|prefix| layer.starts_with(prefix));
                assert_eq!(state[index] == next[index], is_frozen, "{}", spec.name);
            }
        }
    }
}

#[test]
fn a_network_of_which_only_the_classifier_is_trained_takes_its_step() {
    for lowering in lowerings() {
        let plain = model(lowering);
        let trainer = Trainer::new(Model {
            network: plain.network.clone().with_frozen(Some(3)),
            ..plain
        });
        let state = without_kinks(&trainer.layout, initial(&trainer.layout));
        let (next, _) = trainer.step(&state, &images());
        check_gradient(&trainer, &state, &next, "dense/kernel");
        let moved = trainer.layout.network().iter().zip(state.iter().zip(&next));
        let moved = moved.filter(|(_, (before, after))| before != after);
        for (spec, _) in moved {
            let name = &spec.name;
            assert!(
                name.starts_with("bn_out/") || name.starts_with("dense/"),
                "{name}"
            );
        }
    }
}

#[test]
fn a_network_that_pools_evaluates_alike_in_every_formulation() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    let logits = |model: Model| {
        let layout = model.layout();
        let state = initial(&layout);
        let mut inputs = arrays(&layout, &state);
        inputs.truncate(2);
        inputs.push(array("images", &model.image_dims(), &images));
        let executable = common::compile(&eval_step(&model).unwrap());
        let weights = array("weights", &[BATCH], &[1.0; BATCH]);
        execute_computation(&executable, &inputs, &LABELS, &[weights]).remove(1)
    };
    let expected = logits(fast(Lowering::Native));
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    for lowering in lowerings() {
        for (got, expected) in logits(fast(lowering)).iter().zip(&expected) {
            assert!((got - expected).abs() < ROUNDING * largest, "{lowering:?}");
        }
    }
}

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

#[test]
fn replicas_meet_once_a_step_and_in_each_pass_of_a_shared_batch_norm() {
    let all_reduces = |replicas, sync_batch_norm| {
        let model = Model {
            replicas: Replicas(replicas),
            sync_batch_norm,
            ..model(Lowering::Native)
        };
        let text = |computation: xla::XlaComputation| computation.proto().to_string().unwrap();
        let trained = text(train_step(&model).unwrap());
        let evaluated = text(eval_step(&model).unwrap());
        [trained, evaluated].map(|text| text.matches(" all-reduce(").count())
    };
    assert_eq!(all_reduces(1, true), [0, 0]);
    assert_eq!(all_reduces(8, false), [1, 1]);
    // Depth 11 has three units of three batch norms, and one at the end; each goes forward and back.
    assert_eq!(all_reduces(8, true), [1 + 2 * 10, 1]);
}

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

#[test]
fn depths_outside_the_family_are_refused() {
    for depth in [0, 2, 10, 12, 163] {
        let error = Architecture::resnet_v2(depth).unwrap_err();
        assert!(
            error.to_string().contains(&format!("depth {depth} ")),
            "{error}"
        );
    }
}

#[test]
fn tensors_lie_in_flat_arrays_without_gap_or_overlap_decaying_weights_first() {
    let layout = model(Lowering::Native).layout();
    let values: Vec<Vec<f32>> = (0..layout.state().len())
        .map(|i| vec![i as f32 + 0.5; layout.state()[i].len()])
        .collect();
    let flat = layout.join(&values);
    assert_eq!(layout.split(&flat), values);
    // No element kept the 0 that an array starts with.
    assert!(flat.iter().flatten().all(|&v| v > 0.0));
    let total: usize = flat.iter().map(Vec::len).sum();
    assert_eq!(total, values.iter().map(Vec::len).sum::<usize>());
    let kernels = layout
        .network()
        .iter()
        .filter(|t| t.name.ends_with("/kernel"));
    let decaying: usize = kernels.map(|t| t.len()).sum();
    assert_eq!(layout.decaying_len(), decaying);
    let mut offset = 0;
    for spec in layout.tensors_of(xla_graphs::table::Array::Weights) {
        assert_eq!(
            spec.name.ends_with("/kernel"),
            offset < decaying,
            "{}",
            spec.name
        );
        offset += spec.len();
    }
}

#[test]
fn the_layout_follows_the_tutorials_names() {
    let layout = model(Lowering::Native).layout();
    let names: Vec<&str> = layout.state().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names[0], "conv_in/kernel");
    for name in [
        "stage1/unit01/bn1/moving_variance",
        "stage3/unit01/shortcut/kernel",
        "bn_out/gamma",
        "dense/bias",
        "momentum/stage2/unit01/conv2/kernel",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    assert!(!names.contains(&"momentum/bn_out/moving_mean"));
}
