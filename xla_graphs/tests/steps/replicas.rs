//! Several devices.

use xla_graphs::collective::Replicas;
use xla_graphs::ops::Lowering;
use xla_graphs::{Model, eval_step, train_step};

use crate::common::text;
use crate::trainer::model;

#[test]
fn replicas_meet_once_a_step_and_in_each_pass_of_a_shared_batch_norm() {
    for lowering in [Lowering::Native, Lowering::Tpu] {
        check_meetings(lowering);
    }
}

fn check_meetings(lowering: Lowering) {
    let all_reduces = |replicas, sync_batch_norm| {
        let model = Model {
            replicas: Replicas(replicas),
            sync_batch_norm,
            ..model(lowering)
        };
        let trained = text(&train_step(&model).unwrap());
        let evaluated = text(&eval_step(&model).unwrap());
        [trained, evaluated].map(|text| text.matches(" all-reduce(").count())
    };
    assert_eq!(all_reduces(1, true), [0, 0]);
    assert_eq!(all_reduces(8, false), [1, 1]);
    // Depth 11 has three units of three batch norms, and one at the end; each goes forward and back.
    assert_eq!(all_reduces(8, true), [1 + 2 * 10, 1]);
}
