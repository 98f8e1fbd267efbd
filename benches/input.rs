//! How fast an image becomes part of a batch: each stage of the input pipeline by itself, on one thread.
//!
//! Run with `cargo bench --bench input`. An "element" is an image.

use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use resnet_xla::bench::{noise_records, noise_source};
use resnet_xla::data::{
    Augment, Batch, Cutout, Normalization, Resampler, Split, Transform, parse_records,
};

const BATCH: usize = 128;
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
    let normalization = Normalization {
        mean: [127.5; 3],
        std: [73.9; 3],
    };
    let mut group = criterion.benchmark_group("augment and normalise");
    group.throughput(Throughput::Elements(1));
    for (name, augment) in AUGMENTS {
        let mut resampler = Resampler::new(side, &normalization);
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
    const LENGTH: usize = 16;
    let split = split();
    let side = split.side();
    let mut image = vec![1.0; split.image(0).len()];
    let mut sample = 0;
    let mut group = criterion.benchmark_group("cutout");
    group.throughput(Throughput::Elements(1));
    group.bench_function(LENGTH.to_string(), |bencher| {
        bencher.iter(|| {
            Cutout::draw(LENGTH, side, 0, 0, sample).apply(side, &mut image);
            sample = (sample + 1) % split.len() as u32;
        });
    });
}

fn batch(criterion: &mut Criterion) {
    let split = Arc::new(split());
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, augment) in AUGMENTS {
        let source = noise_source(Arc::clone(&split), augment, BATCH, 0);
        let mut batch = Batch::default();
        let mut step = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                source.fill(step % source.steps_per_epoch(), &mut batch);
                step += 1;
            });
        });
    }
}

criterion_group!(benches, decode, one_image, cutout, batch);
criterion_main!(benches);
