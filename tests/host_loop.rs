//! What the host does for a step besides waiting: no new memory of a batch's size.

mod program;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use program::in_process::open_cpu;
use resnet_xla::data::{
    Augment, BatchSource, Batches, DatasetKind, Normalization, PictureOptions, TrainingOptions,
    load,
};
use resnet_xla::model::choose::{self, ModelSettings};
use resnet_xla::model::initialise::initial_state;
use resnet_xla::model::program::{PendingMetrics, Program};
use xla_graphs::ops::Lowering;

const BATCH: usize = 16;
const LEARNING_RATE: f64 = 0.01;

fn source() -> Arc<BatchSource> {
    let train = load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap()
    .train;
    let normalization = Normalization::of(&train);
    let options = TrainingOptions {
        augment: Augment::Keras,
        cutout: 0,
        mix: None,
        seed: 0,
        batch_size: BATCH,
        shuffle: true,
        steps_per_epoch: None,
    };
    Arc::new(BatchSource::training(
        Arc::new(train),
        normalization,
        options,
    ))
}

#[test]
fn a_step_takes_less_memory_on_the_host_than_one_image() {
    let device = open_cpu(1, "");
    let settings = ModelSettings::tutorial(11, BATCH);
    // Without the CPU's kernels: what they allocate inside the executable would count too.
    let model = choose::build_as(&settings, device.kind, Lowering::Dots).unwrap();
    let program = Program::new(&device, model);
    let mut state = Some(
        program
            .upload_state(&initial_state(program.layout(), 0))
            .unwrap(),
    );
    let mut batches = Batches::start(source(), 0..12, 2).unwrap();
    let mut pending: Option<PendingMetrics> = None;
    let mut step = || {
        let batch = batches.next_batch().unwrap().unwrap();
        let inputs = program.upload_batch(batch, LEARNING_RATE).unwrap();
        let (next, metrics) = program.train_step(state.take().unwrap(), &inputs).unwrap();
        state = Some(next);
        if let Some(before) = pending.replace(metrics) {
            assert!(before.read().unwrap().is_finite());
        }
    };
    for _ in 0..3 {
        step();
    }
    for _ in 3..12 {
        let taken = allocation_counter::measure(&mut step);
        assert!(
            taken.bytes_total < 4 * 32 * 32 * 3,
            "{} bytes in {} allocations",
            taken.bytes_total,
            taken.count_total
        );
    }
}

#[test]
fn batches_are_made_in_the_memory_of_those_before() {
    const WORKERS: usize = 2;
    let mut batches = Batches::start(source(), 0..200, WORKERS).unwrap();
    let mut places = HashSet::new();
    while let Some(batch) = batches.next_batch().unwrap() {
        places.insert(batch.images.as_ptr());
    }
    // For each worker: the batch it makes and two that wait; and the one in use. A worker takes new memory only when all
    // that there is lies in these places.
    assert!(places.len() <= 3 * WORKERS + 1, "{} places", places.len());
}
