//! Training steps of a small network on one fixed batch.

use std::sync::LazyLock;

use xla_graphs::collective::Replicas;
use xla_graphs::model::metrics;
use xla_graphs::ops::{Lowering, batch_norm};
use xla_graphs::optimiser;
use xla_graphs::table::slot_name;
use xla_graphs::{Architecture, Layout, Model, Precision, ResNet, train_step};

use crate::common::{self, array, arrays, execute_computation, input, lowerings};

pub const BATCH: usize = 4;
pub const SIDE: usize = 8;
pub const CLASSES: usize = 10;
pub const LABELS: [i32; BATCH] = [3, 0, 9, 3];
pub const LEARNING_RATE: f32 = 0.1;
pub const MOMENTUM: f32 = 0.9;
pub const L2: f32 = 1e-2;

pub fn model(lowering: Lowering) -> Model {
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

pub fn images() -> Vec<f32> {
    input("images", &[BATCH * SIDE * SIDE * 3]).values
}

/// Compiling takes most of the time of these tests: they share the executables.
pub static TRAINERS: LazyLock<Vec<Trainer>> = LazyLock::new(|| {
    lowerings()
        .into_iter()
        .map(model)
        .map(Trainer::new)
        .collect()
});

/// Runs training steps on one fixed batch.
pub struct Trainer {
    pub model: Model,
    pub layout: Layout,
    executable: xla::PjRtLoadedExecutable,
}

impl Trainer {
    pub fn new(model: Model) -> Self {
        Self {
            layout: model.layout(),
            executable: common::compile(&train_step(&model).unwrap()),
            model,
        }
    }

    /// The next state and the metrics.
    pub fn step(&self, state: &[Vec<f32>], images: &[f32]) -> (Vec<Vec<f32>>, Vec<f32>) {
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

    pub fn index(&self, name: &str) -> usize {
        self.layout
            .state()
            .iter()
            .position(|t| t.name == name)
            .unwrap()
    }
}

/// The loss that Keras prints, from a metrics vector.
pub fn loss(metrics: &[f32]) -> f64 {
    f64::from(metrics[metrics::CROSS_ENTROPY_SUM]) / BATCH as f64
        + f64::from(metrics[metrics::PENALTY])
}

/// By what share the loss is larger in bf16 than in the `metrics` of the same step in f32.
pub fn error_in_bf16(
    trainer: &Trainer,
    state: &[Vec<f32>],
    images: &[f32],
    metrics: &[f32],
) -> f64 {
    let model = trainer.model.clone();
    let rounded = Trainer::new(Model {
        network: model.network.with_precision(Precision::Bf16),
        ..model
    });
    let (_, of_bf16) = rounded.step(state, images);
    loss(&of_bf16) / loss(metrics) - 1.0
}

/// Checks the largest element of the gradient of the weight `name` in a first step from `state` to
/// `next` against its central difference.
pub fn check_gradient(trainer: &Trainer, state: &[Vec<f32>], next: &[Vec<f32>], name: &str) {
    check_gradient_of(trainer, state, next, &images(), name);
}

/// [`check_gradient`] on other images.
pub fn check_gradient_of(
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
