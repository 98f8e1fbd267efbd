//! How fast an image becomes part of a batch: each stage of the input pipeline by itself, on one thread.
//!
//! Run with `cargo bench --bench input`. An "element" is an image.

use std::path::Path;
use std::sync::Arc;

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use resnet_xla::bench::{NOISE_NORMALIZATION, noise_options, noise_records};
use resnet_xla::data::{
    Augment, Batch, BatchSource, Cutout, Mix, Resampler, Split, TrainingOptions, Transform,
    parse_records,
};

const BATCH: usize = 128;
/// Pixels along a side of the square that cutout takes: `fast`'s.
const CUTOUT: usize = 12;
const AUGMENTS: [(&str, Augment); 4] = [
    ("keras", Augment::Keras),
    ("crop", Augment::Crop),
    ("translate", Augment::Translate),
    ("none", Augment::None),
];

fn split() -> Split {
    parse_records(Path::new("noise"), &noise_records()).expect("noise has whole records")
}

fn decode(criterion: &mut Criterion) {
    let records = noise_records();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(split().len() as u64));
    group.sample_size(20);
    group.bench_function("50,000 records", |bencher| {
        bencher.iter(|| parse_records(Path::new("noise"), &records));
    });
}

fn one_image(criterion: &mut Criterion) {
    let split = split();
    let side = split.side();
    let mut group = criterion.benchmark_group("augment and normalise");
    group.throughput(Throughput::Elements(1));
    for (name, augment) in AUGMENTS {
        let mut resampler = Resampler::new(side, &NOISE_NORMALIZATION);
        let mut out = vec![0.0; split.image(0).len()];
        let mut sample = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let transform = Transform::draw(augment, side, 0, 0, sample);
                resampler.apply(&transform, split.image(sample as usize), &mut out);
                sample = (sample + 1) % split.len() as u32;
            });
        });
    }
}

fn cutout(criterion: &mut Criterion) {
    let split = split();
    let side = split.side();
    let mut image = vec![1.0; split.image(0).len()];
    let mut sample = 0;
    let mut group = criterion.benchmark_group("cutout");
    group.throughput(Throughput::Elements(1));
    group.bench_function(CUTOUT.to_string(), |bencher| {
        bencher.iter(|| {
            Cutout::draw(CUTOUT, side, 0, 0, sample).apply(side, &mut image);
            sample = (sample + 1) % split.len() as u32;
        });
    });
}

fn batch(criterion: &mut Criterion) {
    let split = Arc::new(split());
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, augment) in AUGMENTS {
        group.bench_function(name, |bencher| fill(bencher, &split, augment, 0, None));
    }
    let mixes = [
        ("cutout", None),
        ("cutout, mixup", Some(Mix::Blend { alpha: 0.2 })),
        ("cutout, cutmix", Some(Mix::Paste { alpha: 1.0 })),
    ];
    for (name, mix) in mixes {
        let name = format!("translate, {name}");
        let run = |bencher: &mut Bencher| fill(bencher, &split, Augment::Translate, CUTOUT, mix);
        group.bench_function(name, run);
    }
}

/// Times a training batch of `split`.
fn fill(
    bencher: &mut Bencher,
    split: &Arc<Split>,
    augment: Augment,
    cutout: usize,
    mix: Option<Mix>,
) {
    let options = TrainingOptions {
        cutout,
        mix,
        ..noise_options(split, augment, BATCH, 0)
    };
    let source = BatchSource::training(Arc::clone(split), NOISE_NORMALIZATION, options);
    let mut batch = Batch::default();
    let mut step = 0;
    bencher.iter(|| {
        source.fill(step % source.steps_per_epoch(), &mut batch);
        step += 1;
    });
}

criterion_group!(benches, decode, one_image, cutout, batch);
criterion_main!(benches);
