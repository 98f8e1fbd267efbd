//! The layers on the kernels.

use cpu_kernels::format::{Bf16, F32, Format, Half, Lanes};
use cpu_kernels::layer::{Gradients, Layer, Output, OutputGradient};
use cpu_kernels::norm::{self, Norm, NormGradient};
use cpu_kernels::{Isa, conv3x3, pointwise};
use criterion::{Criterion, Throughput, criterion_group};
use kernel_contract as contract;

const IMAGES: usize = 128;
/// Side of the images and channels of the residual stream of each stage.
const STAGES: [(usize, usize); 3] = [(32, 64), (16, 128), (8, 256)];
/// Side of the images and output channels of the layers with stride 2 of basic blocks.
const STRIDED: [(usize, usize); 2] = [(32, 32), (16, 64)];

/// Side of the images and channels of the wide 3x3 layers of the model `fast`.
const WIDE: [(usize, usize); 3] = [(16, 128), (8, 256), (4, 384)];

/// A format with its name.
trait Stored: Format {
    const FORMAT: contract::Format;

    fn of(lanes: &Lanes) -> Self::Lanes;
}

impl Stored for F32 {
    const FORMAT: contract::Format = contract::Format::F32;

    fn of(lanes: &Lanes) -> Lanes {
        *lanes
    }
}

impl Stored for Bf16 {
    const FORMAT: contract::Format = contract::Format::Bf16;

    fn of(lanes: &Lanes) -> Half {
        Half(lanes.map(|x| (x.to_bits() >> 16) as u16))
    }
}

fn stored<F: Stored>(lanes: &[Lanes]) -> Vec<F::Lanes> {
    lanes.iter().map(F::of).collect()
}

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
    for isa in Isa::ALL {
        if isa != Isa::Generic && isa.is_present() {
            layers_on::<F32>(criterion, isa);
            layers_on::<Bf16>(criterion, isa);
        }
    }
}

fn layers_on<F: Stored>(criterion: &mut Criterion, isa: Isa) {
    for (side, channels) in STAGES {
        let inner = channels / 4;
        for (kernel, inputs, outputs) in [
            (1, channels, inner),
            (3, inner, inner),
            (1, inner, channels),
        ] {
            let layer = layer::<F>(side, [inputs, outputs], [kernel, 1]);
            bench_layer::<F>(criterion, isa, &layer);
        }
        bench_norm::<F>(criterion, isa, IMAGES * side * side, channels);
    }
    for (side, outputs) in STRIDED {
        let layer = layer::<F>(side, [outputs / 2, outputs], [3, 2]);
        bench_layer::<F>(criterion, isa, &layer);
    }
    for (side, channels) in WIDE {
        let layer = layer::<F>(side, [channels, channels], [3, 1]);
        bench_layer::<F>(criterion, isa, &layer);
    }
}

fn layer<F: Stored>(
    size: usize,
    [inputs, outputs]: [usize; 2],
    [side, stride]: [usize; 2],
) -> Layer {
    Layer {
        images: IMAGES,
        height: size,
        width: size,
        inputs,
        outputs,
        side,
        stride,
        pools: false,
        format: F::FORMAT,
    }
}

fn bench_layer<F: Stored>(criterion: &mut Criterion, isa: Isa, layer: &Layer) {
    let format = F::FORMAT;
    let name = format!(
        "{isa}, {format:?}, {0}x{0}, {1}x{1}, {2} to {3}, stride {4}",
        layer.side, layer.height, layer.inputs, layer.outputs, layer.stride
    );
    let operations = 2 * layer.images * layer.output_pixels() * layer.kernel_len();
    let norm = unit_norm(layer.inputs);
    let x = stored::<F>(&noise(layer.images * layer.input_len()));
    let other = stored::<F>(&noise(layer.images * layer.output_len()));
    let kernel = noise(layer.kernel_len() / 16);
    let kernel = kernel.as_flattened();
    // Only the layer that widens the channels again has a skip.
    let widens = layer.side == 1 && layer.outputs > layer.inputs;
    let skip = widens.then_some(&other[..]);

    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(operations as u64));
    let mut y = other.clone();
    let mut moments = vec![0.0; 2 * layer.outputs];
    let mut out = Output::<F> {
        y: &mut y,
        moments: &mut moments,
        chosen: &mut [],
    };
    group.bench_function("forward", |b| {
        b.iter(|| {
            if layer.side == 1 {
                pointwise::forward::<F>(isa, layer, &norm, &x, kernel, skip, &mut out);
            } else {
                conv3x3::forward::<F>(isa, layer, &norm, &x, kernel, skip, &mut out);
            }
        })
    });

    group.throughput(Throughput::Elements(2 * operations as u64));
    let mut dz = x.clone();
    let (mut dbeta, mut dgamma) = (vec![0.0; layer.inputs], vec![0.0; layer.inputs]);
    let mut dkernel = vec![0.0; layer.kernel_len()];
    let dy = OutputGradient::<F>::Plain(&other);
    group.bench_function("backward", |b| {
        b.iter(|| {
            let mut gradients = Gradients::<F> {
                dy: &mut [],
                dz: &mut dz,
                dbeta: &mut dbeta,
                dgamma: &mut dgamma,
                kernel: &mut dkernel,
            };
            if layer.side == 1 {
                pointwise::backward(isa, layer, &norm, &x, kernel, &dy, &mut gradients);
            } else {
                conv3x3::backward(isa, layer, &norm, &x, kernel, &dy, &mut gradients);
            }
        })
    });
}

/// The backward pass through the first batch norm of a unit, with the skip: bytes, not operations.
fn bench_norm<F: Stored>(criterion: &mut Criterion, isa: Isa, pixels: usize, channels: usize) {
    let len = pixels * channels / 16;
    let format = F::FORMAT;
    let (x, dz) = (stored::<F>(&noise(len)), stored::<F>(&noise(len)));
    let mut dx = x.clone();
    let sums = vec![0.5; channels];
    let gradient = NormGradient::new(&unit_norm(channels), &sums, &sums, pixels as f32);
    let mut group = criterion.benchmark_group(format!(
        "{isa}, {format:?}, norm, {pixels} pixels, {channels} channels"
    ));
    group.throughput(Throughput::Bytes(4 * 4 * (pixels * channels) as u64));
    group.bench_function("backward", |b| {
        b.iter(|| norm::backward::<F>(isa, &gradient, &dz, &x, false, &mut dx))
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10);
    targets = layers
}
