//! Networks of version 1 against central differences.

use xla_graphs::network::{Block, Downsampling, Stem, Version};
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Model, ResNet};

use crate::common::{initial, input, without_kinks};
use crate::trainer::{BATCH, CLASSES, SIDE, Trainer, check_gradient_of, error_in_bf16, model};

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
            let error = error_in_bf16(&trainer, &state, &images, &metrics);
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
fn a_classifier_alone_is_trained_behind_layers_of_version_1() {
    let images = input("images", &[BATCH * 4 * SIDE * SIDE * 3]).values;
    for sync_batch_norm in [true, false] {
        let plain = v1(Block::Basic, Downsampling::Unit, Lowering::Dots);
        let trainer = Trainer::new(Model {
            network: plain.network.clone().with_frozen(Some(2)),
            sync_batch_norm,
            ..plain
        });
        let state = without_kinks(&trainer.layout, initial(&trainer.layout));
        let (next, _) = trainer.step(&state, &images);
        check_gradient_of(&trainer, &state, &next, &images, "dense/kernel");
        for (index, spec) in trainer.layout.network().iter().enumerate() {
            let is_frozen = !spec.name.starts_with("dense/");
            assert_eq!(state[index] == next[index], is_frozen, "{}", spec.name);
        }
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
