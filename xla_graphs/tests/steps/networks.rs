//! Networks of every kind against central differences, and in every formulation.

use xla_graphs::network::{Block, Downsampling, Stage, Stem, Units};
use xla_graphs::ops::Lowering;
use xla_graphs::table::slot_name;
use xla_graphs::{Architecture, Model, Precision, ResNet, eval_step};

use crate::common::{
    self, ROUNDING, array, arrays, execute_computation, initial, input, lowerings, without_kinks,
};
use crate::trainer::{
    BATCH, CLASSES, LABELS, LEARNING_RATE, SIDE, TRAINERS, Trainer, check_gradient,
    check_gradient_of, error_in_bf16, images, model,
};

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
        check_same_step(&trainer, &got, &expected);
    }
}

/// Checks that a step of `trainer` `got` to the `expected` state, but for rounding.
fn check_same_step(trainer: &Trainer, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (spec, (got, expected)) in trainer.layout.state().iter().zip(got.iter().zip(expected)) {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (got, expected) in got.iter().zip(expected) {
            // Where the terms of a gradient cancel, the rounding of the terms stays: they are about 0.1 large, and
            // the slot has the rate's share of them.
            let error = (got - expected).abs() / largest.max(0.1 * LEARNING_RATE);
            let lowering = trainer.model.network.stem.lowering;
            assert!(
                error < ROUNDING,
                "{lowering} {}: {got} {expected}",
                spec.name
            );
        }
    }
}

/// Two units in each stage: the skip of the first has a convolution, that of the second is its input.
fn two_units(lowering: Lowering, precision: Precision) -> Trainer {
    let network = ResNet::new(&Architecture::resnet_v2(20).unwrap(), CLASSES, lowering).unwrap();
    Trainer::new(Model {
        network: network.with_precision(precision),
        ..model(lowering)
    })
}

#[test]
fn sums_of_batch_norms_that_come_from_gradients_of_kernels_give_the_same_step() {
    let step = |lowering, precision| {
        let trainer = two_units(lowering, precision);
        // Its forward pass is the same, so both find the same values on either side of a kink.
        let (next, _) = trainer.step(&initial(&trainer.layout), &images());
        (trainer, next)
    };
    let (_, expected) = step(Lowering::Native, Precision::F32);
    let (trainer, got) = step(Lowering::Tpu, Precision::F32);
    check_same_step(&trainer, &got, &expected);

    // In bf16 they are rounded elsewhere, and are no further from those in f32 for it.
    let distance = |lowering| {
        let (trainer, next) = step(lowering, Precision::Bf16);
        let of = |name: &str| distance_of(&trainer, &next, &expected, name);
        [
            of("stage1/unit02/bn1/gamma"),
            of("stage2/unit01/bn1/beta"),
            of("stage3/unit02/conv1/kernel"),
            of("conv_in/kernel"),
        ]
    };
    let (native, tpu) = (distance(Lowering::Native), distance(Lowering::Tpu));
    println!("{native:.4?} {tpu:.4?}");
    for (native, tpu) in native.iter().zip(tpu) {
        assert!(tpu < 1.2 * native, "{native} {tpu}");
    }
}

/// How far the gradient of the weight `name`, as the slots of its momentum have it, is from the `expected` one, as a share of
/// that.
fn distance_of(trainer: &Trainer, got: &[Vec<f32>], expected: &[Vec<f32>], name: &str) -> f64 {
    let slot = trainer.index(&slot_name("momentum", name));
    let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let pairs = got[slot].iter().zip(&expected[slot]);
    let off = squares(&mut pairs.map(|(got, expected)| got - expected));
    (off / squares(&mut expected[slot].iter().copied())).sqrt()
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
            let error = error_in_bf16(&trainer, &state, &images, &metrics);
            assert!(error.abs() < 0.01, "{lowering:?}: {error}");
        }
    }
}
