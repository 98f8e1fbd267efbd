//! bf16 activations and kernels beside f32: how far training drifts, and what stays f32.

use std::path::Path;
use std::sync::Arc;

use resnet_xla::config::{BatchNormMode, DeviceChoice, PrecisionChoice};
use resnet_xla::data::{
    Augment, Batch, BatchSource, DatasetKind, Normalization, TrainingOptions, load,
};
use resnet_xla::device::Device;
use resnet_xla::initialise::initial_state;
use resnet_xla::metrics::BatchMetrics;
use resnet_xla::model::{self, ModelSettings};
use resnet_xla::program::Program;
use resnet_xla::state::HostState;
use xla_graphs::Layout;
use xla_graphs::table::Role;

const STEPS: usize = 200;
const BATCH: usize = 16;
const LEARNING_RATE: f64 = 0.02;
/// Moves most weights by less than bf16 resolves, and by more than f32 does.
const SMALL_RATE: f64 = 1e-4;
/// Steps over which losses are averaged: one small batch says little.
const WINDOW: usize = 20;
/// Largest difference of a window's mean loss, relative to that of f32.
const BAND: f64 = 0.03;
/// bf16 keeps 8 of f32's 24 significant bits: rounding to it moves a value by up to this share.
const BF16_ROUNDING: f32 = 1.0 / 256.0;

#[test]
fn bf16_stays_near_f32_for_200_steps_and_leaves_master_values_in_f32() {
    let device = Device::open(DeviceChoice::Cpu, None, None).unwrap();
    let (f32_run, bf16_run) = (
        Run::new(&device, PrecisionChoice::F32),
        Run::new(&device, PrecisionChoice::Bf16),
    );
    let layout = bf16_run.program.layout();
    let initial = initial_state(layout, 3);
    let source = training_source();

    let exact = logits(&f32_run, &initial, &batch(&source, 0));
    let rounded = logits(&bf16_run, &initial, &batch(&source, 0));
    check_logits(&exact, &rounded);

    let (first, metrics) = bf16_run.train(&initial, SMALL_RATE, 1, &source);
    check_master_values(layout, &initial, &first);
    let (_, f32_metrics) = f32_run.train(&initial, SMALL_RATE, 1, &source);
    check_losses(&f32_metrics[0], &metrics[0]);

    let (_, bf16_curve) = bf16_run.train(&initial, LEARNING_RATE, STEPS, &source);
    let (_, f32_curve) = f32_run.train(&initial, LEARNING_RATE, STEPS, &source);
    check_curves(&f32_curve, &bf16_curve);
}

struct Run<'a> {
    program: Program<'a>,
}

impl<'a> Run<'a> {
    fn new(device: &'a Device, precision: PrecisionChoice) -> Self {
        let settings = ModelSettings {
            depth: 11,
            batch_size: BATCH,
            replicas: 1,
            precision: Some(precision),
            units: None,
            batch_norm: BatchNormMode::Sync,
            l2: 1e-4,
            momentum: 0.9,
        };
        let model = model::build(&settings, device.kind).unwrap();
        Self {
            program: Program::new(device, model),
        }
    }

    /// The state after `steps` steps from `initial`, and the metrics of each.
    fn train(
        &self,
        initial: &HostState,
        learning_rate: f64,
        steps: usize,
        source: &BatchSource,
    ) -> (HostState, Vec<BatchMetrics>) {
        let mut state = self.program.upload_state(initial).unwrap();
        let mut all = Vec::new();
        for step in 0..steps {
            let metrics;
            let batch = batch(source, step as u64);
            let inputs = self.program.upload_batch(&batch, learning_rate).unwrap();
            (state, metrics) = self.program.train_step(state, &inputs).unwrap();
            all.push(metrics.read().unwrap());
        }
        (self.program.download_state(&state).unwrap(), all)
    }
}

fn training_source() -> BatchSource {
    let sample = load(DatasetKind::Sample, Path::new("")).unwrap();
    let normalization = Normalization::of(&sample.train);
    let options = TrainingOptions {
        augment: Augment::None,
        seed: 3,
        batch_size: BATCH,
        shuffle: true,
        steps_per_epoch: None,
    };
    BatchSource::training(Arc::new(sample.train), normalization, options)
}

fn batch(source: &BatchSource, step: u64) -> Batch {
    let mut batch = Batch::default();
    source.fill(step, &mut batch);
    batch
}

fn logits(run: &Run, state: &HostState, batch: &Batch) -> Vec<f32> {
    let network = state.values()[..run.program.layout().network().len()].to_vec();
    let weights = run
        .program
        .upload_weights(&HostState::new(network))
        .unwrap();
    run.program.predict_step(&weights, &batch.images).unwrap()
}

/// Whether a bf16 number could not hold `value`.
fn is_wider_than_bf16(value: f32) -> bool {
    value.to_bits() & 0xffff != 0
}

/// The logits differ as bf16's rounding makes them, no less and not much more.
fn check_logits(exact: &[f32], rounded: &[f32]) {
    let largest = exact.iter().fold(0f32, |m, z| m.max(z.abs()));
    let pairs = exact.iter().zip(rounded);
    let deviation = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
    println!("logits: largest deviation {deviation:.1e}");
    assert!(
        deviation > 0.01 * BF16_ROUNDING,
        "is bf16 used at all? {deviation:.1e}"
    );
    assert!(deviation < 10.0 * BF16_ROUNDING, "{deviation:.1e}");
    assert!(
        rounded.iter().any(|&z| is_wider_than_bf16(z)),
        "logits are bf16"
    );
}

/// A step far below bf16's resolution moves the weights, and everything that lasts has f32's digits.
fn check_master_values(layout: &Layout, initial: &HostState, first: &HostState) {
    for (index, spec) in layout.state().iter().enumerate() {
        let (old, new) = (&initial.values()[index], &first.values()[index]);
        let count = |holds: &dyn Fn(f32, f32) -> bool| {
            let pairs = old.iter().zip(new);
            pairs.filter(|(old, new)| holds(**old, **new)).count() as f64 / spec.len() as f64
        };
        let name = &spec.name;
        if !matches!(spec.role, Role::Weight { .. }) {
            let wide = count(&|_, new| is_wider_than_bf16(new));
            assert!(wide > 0.9, "{name}: {wide} of the values need f32");
        } else if name.ends_with("/kernel") {
            let small = |old: f32, new: f32| (new - old).abs() < BF16_ROUNDING * old.abs() / 2.0;
            let moved = count(&|old, new| new != old && small(old, new));
            assert!(
                moved > 0.5,
                "{name}: {moved} of the weights moved by less than bf16 resolves"
            );
        }
    }
}

/// The penalty reads f32 weights; the cross-entropy follows from f32 logits of bf16 activations.
fn check_losses(f32_step: &BatchMetrics, bf16_step: &BatchMetrics) {
    let relative = |a: f64, b: f64| (a / b - 1.0).abs();
    assert_eq!(bf16_step.penalty, f32_step.penalty);
    let deviation = relative(bf16_step.cross_entropy_sum, f32_step.cross_entropy_sum);
    println!("first cross-entropy: deviation {deviation:.1e}");
    assert!(deviation > 0.0 && deviation < f64::from(BF16_ROUNDING) * 2.0);
    assert!(is_wider_than_bf16(bf16_step.cross_entropy_sum as f32));
}

fn check_curves(f32_curve: &[BatchMetrics], bf16_curve: &[BatchMetrics]) {
    let means = |curve: &[BatchMetrics]| -> Vec<f64> {
        let mean = |window: &[BatchMetrics]| {
            window.iter().map(BatchMetrics::loss).sum::<f64>() / window.len() as f64
        };
        curve.chunks(WINDOW).map(mean).collect()
    };
    let (exact, rounded) = (means(f32_curve), means(bf16_curve));
    println!("mean loss of every {WINDOW} steps\nf32  {exact:.3?}\nbf16 {rounded:.3?}");
    assert!(
        exact[exact.len() - 1] < 0.9 * exact[0],
        "f32 must learn for this to say anything"
    );
    for (window, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        let difference = (rounded / exact - 1.0).abs();
        assert!(
            difference < BAND,
            "window {window}: {rounded} but {exact} in f32"
        );
    }
}
