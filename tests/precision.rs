//! bf16 activations and kernels beside f32: how far a step is off, that it learns, and what stays f32.

mod program;

use std::path::Path;
use std::sync::Arc;

use program::in_process::open_cpu;
use resnet_xla::data::{
    Augment, Batch, BatchSource, DatasetKind, Normalization, PictureOptions, TrainingOptions, load,
};
use resnet_xla::device::Device;
use resnet_xla::model::choose::PrecisionChoice;
use resnet_xla::model::choose::{self, ModelSettings};
use resnet_xla::model::initialise::initial_state;
use resnet_xla::model::metrics::BatchMetrics;
use resnet_xla::model::program::Program;
use resnet_xla::model::state::HostState;
use xla_graphs::Layout;
use xla_graphs::table::Role;

const STEPS: usize = 100;
const BATCH: usize = 16;
const LEARNING_RATE: f64 = 0.02;
const L2: f64 = 1e-4;
/// Moves most weights by less than bf16 resolves, and by more than f32 does.
const SMALL_RATE: f64 = 1e-4;
/// Steps over which losses are averaged: one small batch says little.
const WINDOW: usize = 20;
/// bf16 keeps 8 of f32's 24 significant bits: rounding to it moves a value by up to this share.
const BF16_ROUNDING: f32 = 1.0 / 256.0;

#[test]
fn bf16_stays_near_f32_learns_as_it_does_and_leaves_master_values_in_f32() {
    let device = open_cpu(1, "");
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
    check_penalty(&bf16_run, &initial, &source);

    let (_, curve) = bf16_run.train(&initial, LEARNING_RATE, STEPS, &source);
    check_learning(&curve);
    check_beside(&f32_run, &bf16_run, &initial, &source);
}

struct Run<'a> {
    program: Program<'a>,
}

impl<'a> Run<'a> {
    fn new(device: &'a Device, precision: PrecisionChoice) -> Self {
        let settings = ModelSettings {
            precision: Some(precision),
            l2: L2,
            ..ModelSettings::tutorial(11, BATCH)
        };
        let model = choose::build(&settings, device.kind).unwrap();
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

    /// The state after step `step`, from `before`, and its metrics.
    fn step(
        &self,
        before: &HostState,
        step: u64,
        source: &BatchSource,
    ) -> (HostState, BatchMetrics) {
        let state = self.program.upload_state(before).unwrap();
        let batch = batch(source, step);
        let inputs = self.program.upload_batch(&batch, LEARNING_RATE).unwrap();
        let (state, metrics) = self.program.train_step(state, &inputs).unwrap();
        let after = self.program.download_state(&state).unwrap();
        (after, metrics.read().unwrap())
    }
}

fn training_source() -> BatchSource {
    let sample = load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap();
    let normalization = Normalization::of(&sample.train);
    let options = TrainingOptions {
        augment: Augment::None,
        cutout: 0,
        mix: None,
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

/// The cross-entropy follows from f32 logits of bf16 activations.
fn check_losses(f32_step: &BatchMetrics, bf16_step: &BatchMetrics) {
    let relative = |a: f64, b: f64| (a / b - 1.0).abs();
    let deviation = relative(bf16_step.cross_entropy_sum, f32_step.cross_entropy_sum);
    println!("first cross-entropy: deviation {deviation:.1e}");
    assert!(deviation > 0.0 && deviation < f64::from(BF16_ROUNDING) * 2.0);
    assert!(is_wider_than_bf16(bf16_step.cross_entropy_sum as f32));
}

/// The penalty reads f32 weights. Weights just below the middle between two bf16 numbers would all lose up to an eighth
/// of a percent and more, and their squares twice that; a sum of 128,000 squares in f32 is off by far less.
fn check_penalty(run: &Run, initial: &HostState, source: &BatchSource) {
    const BELOW_THE_MIDDLE: u32 = 0x7fff;
    let mut values = initial.clone().into_values();
    let mut squares = 0.0;
    for (spec, values) in run.program.layout().network().iter().zip(&mut values) {
        for value in values.iter_mut().filter(|_| spec.name.ends_with("/kernel")) {
            *value = f32::from_bits(value.to_bits() & 0xffff_0000 | BELOW_THE_MIDDLE);
            squares += f64::from(*value).powi(2);
        }
    }
    let (_, metrics) = run.step(&HostState::new(values), 0, source);
    let deviation = (metrics.penalty / (L2 * squares) - 1.0).abs();
    println!("penalty: deviation {deviation:.1e}");
    assert!(deviation < 1e-4, "{deviation:.1e}");
}

/// Chance cannot bring the mean loss of a window down by a tenth.
fn check_learning(curve: &[BatchMetrics]) {
    let mean = |window: &[BatchMetrics]| {
        window.iter().map(BatchMetrics::loss).sum::<f64>() / window.len() as f64
    };
    let means: Vec<f64> = curve.chunks(WINDOW).map(mean).collect();
    println!("mean loss of every {WINDOW} steps in bf16: {means:.3?}");
    assert!(means[means.len() - 1] < 0.9 * means[0], "{means:?}");
}

/// Each step of both begins where f32's step before ended: two trainings side by side drift apart as any two do that
/// differ by a rounding, and say nothing of bf16.
fn check_beside(f32_run: &Run, bf16_run: &Run, initial: &HostState, source: &BatchSource) {
    let mut state = initial.clone();
    let mut most = 0f64;
    for step in 0..WINDOW as u64 {
        let (_, rounded) = bf16_run.step(&state, step, source);
        let (after, exact) = f32_run.step(&state, step, source);
        most = most.max((rounded.loss() / exact.loss() - 1.0).abs());
        state = after;
    }
    println!("losses from equal weights: largest deviation {most:.1e}");
    // Logits are off by a few roundings to bf16, and a mean over images by no more than they.
    assert!(most < 4.0 * f64::from(BF16_ROUNDING), "{most:.1e}");
}
