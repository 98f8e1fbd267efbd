//! Layers that training leaves as they are.

use xla_graphs::Model;
use xla_graphs::table::Role;

use crate::common::{initial, input, lowerings, without_kinks};
use crate::trainer::{Trainer, check_gradient, images, model};

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
