//! The layers on the kernels.

use cpu_kernels::layer::{Gradients, Layer, OutputGradient};
use cpu_kernels::norm::{self, Lanes, Norm, NormGradient};
use cpu_kernels::{conv3x3, pointwise};
use criterion::{Criterion, Throughput, criterion_group};

const IMAGES: usize = 128;
/// Side of the images and channels of the residual stream of each stage.
const STAGES: [(usize, usize); 3] = [(32, 64), (16, 128), (8, 256)];

/// Values of a deterministic noise in [-1, 1), in lanes.
fn noise(lanes: usize) -> Vec<Lanes> {
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..lanes)
        .map(|_| std::array::from_fn(|_| next()))
        .collect()
}

fn unit_norm(channels: usize) -> Norm {
    let (zeros, ones) = (vec![0.0; channels], vec![1.0; channels]);
    Norm::new(&zeros, &ones, &ones, &zeros, 1e-3)
}

fn layers(criterion: &mut Criterion) {
    for (side, channels) in STAGES {
        let inner = channels / 4;
        for (kernel, inputs, outputs) in [
            (1, channels, inner),
            (3, inner, inner),
            (1, inner, channels),
        ] {
            let layer = Layer {
                images: IMAGES,
                height: side,
                width: side,
                inputs,
                outputs,
                side: kernel,
                stride: 1,
            };
            bench_layer(criterion, &layer);
        }
        bench_norm(criterion, IMAGES * side * side, channels);
    }
}

fn bench_layer(criterion: &mut Criterion, layer: &Layer) {
    let name = format!(
        "{0}x{0}, {1}x{1}, {2} to {3}",
        layer.side, layer.height, layer.inputs, layer.outputs
    );
    let operations = 2 * layer.images * layer.output_pixels() * layer.kernel_len();
    let norm = unit_norm(layer.inputs);
    let x = noise(layer.images * layer.input_len());
    let other = noise(layer.images * layer.output_len());
    let kernel = noise(layer.kernel_len() / 16);
    let kernel = kernel.as_flattened();
    // Only the layer that widens the channels again has a skip.
    let skip = (layer.outputs > layer.inputs).then_some(&other[..]);

    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(operations as u64));
    let mut y = other.clone();
    let mut moments = vec![0.0; 2 * layer.outputs];
    group.bench_function("forward", |b| {
        b.iter(|| {
            if layer.side == 1 {
                pointwise::forward(layer, &norm, &x, kernel, skip, &mut y, &mut moments);
            } else {
                conv3x3::forward(layer, &norm, &x, kernel, &mut y, &mut moments);
            }
        })
    });

    group.throughput(Throughput::Elements(2 * operations as u64));
    let mut dz = x.clone();
    let (mut dbeta, mut dgamma) = (vec![0.0; layer.inputs], vec![0.0; layer.inputs]);
    let mut dkernel = vec![0.0; layer.kernel_len()];
    let dy = OutputGradient::Plain(&other);
    group.bench_function("backward", |b| {
        b.iter(|| {
            let mut gradients = Gradients {
                dz: &mut dz,
                dbeta: &mut dbeta,
                dgamma: &mut dgamma,
                kernel: &mut dkernel,
            };
            if layer.side == 1 {
                pointwise::backward(layer, &norm, &x, kernel, &dy, &mut gradients);
            } else {
                conv3x3::backward(layer, &norm, &x, kernel, &dy, &mut gradients);
            }
        })
    });
}

/// The backward pass through the first batch norm of a unit, with the skip: bytes, not operations.
fn bench_norm(criterion: &mut Criterion, pixels: usize, channels: usize) {
    let len = pixels * channels / 16;
    let (x, dz) = (noise(len), noise(len));
    let mut dx = x.clone();
    let sums = vec![0.5; channels];
    let gradient = NormGradient::new(&unit_norm(channels), &sums, &sums, pixels as f32);
    let mut group =
        criterion.benchmark_group(format!("norm, {pixels} pixels, {channels} channels"));
    group.throughput(Throughput::Bytes(4 * 4 * (pixels * channels) as u64));
    group.bench_function("backward", |b| {
        b.iter(|| norm::backward(&gradient, &dz, &x, &dz, false, &mut dx))
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10);
    targets = layers
}
