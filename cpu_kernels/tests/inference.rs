//! Images taken through all layers of a network at once, against the same layers one after another: equal bits, on each
//! instruction set of this processor and in each format.

#![cfg(target_arch = "x86_64")]

mod common;
#[path = "inference/stem.rs"]
mod stem;

use cpu_kernels::format::{Bf16, F32, Format, Half, Lanes};
use cpu_kernels::inference::{self, Input, Step};
use cpu_kernels::layer::{Layer, Output};
use cpu_kernels::norm::{self, Norm};
use cpu_kernels::{Isa, conv3x3, pointwise};
use kernel_contract as contract;
use kernel_contract::plan::Added;

use common::{noise, sets};

const CHANNELS: usize = 16;

/// A format, and how a test writes and reads it.
trait Stored: Format {
    const FORMAT: contract::Format;

    fn of(lanes: &Lanes) -> Self::Lanes;
    fn bits(lanes: &Self::Lanes) -> [u32; 16];
    fn values(lanes: &Self::Lanes) -> Lanes;
}

impl Stored for F32 {
    const FORMAT: contract::Format = contract::Format::F32;

    fn of(lanes: &Lanes) -> Lanes {
        *lanes
    }

    fn bits(lanes: &Lanes) -> [u32; 16] {
        lanes.map(f32::to_bits)
    }

    fn values(lanes: &Lanes) -> Lanes {
        *lanes
    }
}

impl Stored for Bf16 {
    const FORMAT: contract::Format = contract::Format::Bf16;

    fn of(lanes: &Lanes) -> Half {
        Half(lanes.map(|x| (x.to_bits() >> 16) as u16))
    }

    fn bits(lanes: &Half) -> [u32; 16] {
        lanes.0.map(u32::from)
    }

    fn values(lanes: &Half) -> Lanes {
        lanes.0.map(|x| f32::from_bits(u32::from(x) << 16))
    }
}

/// What a layer reads and how.
struct Shape {
    input: usize,
    outputs: usize,
    /// Of the kernel: side and stride.
    kernel: [usize; 2],
    pools: bool,
    /// A value, and the stride in which it is added.
    added: Option<[usize; 2]>,
}

/// Of each kind of layer that inference computes directly one at least: with strides, a projection, a skip around one layer,
/// pooling, and skips that have fewer channels than the result, and more pixels.
const SHAPES: [Shape; 8] = [
    shape(0, 32, [1, 1], None),
    shape(1, 16, [3, 2], None),
    shape(0, 48, [1, 2], None),
    shape(2, 48, [1, 1], Some([3, 1])),
    shape(4, 48, [3, 1], Some([4, 1])),
    pooled(shape(5, 80, [3, 1], None)),
    shape(6, 96, [1, 1], Some([6, 1])),
    shape(7, 112, [3, 2], Some([7, 2])),
];

/// 3x3 alone, which inference computes in tiles of 4x4 results and, behind pooling, of 2x2. Training does the same with so
/// many pixels and channels.
const SHAPES_IN_TILES: [Shape; 6] = [
    shape(0, 32, [3, 1], None),
    shape(1, 48, [3, 1], Some([1, 1])),
    pooled(shape(2, 160, [3, 1], None)),
    shape(3, 176, [3, 1], None),
    shape(4, 192, [3, 1], Some([4, 1])),
    pooled(shape(5, 144, [3, 1], None)),
];

const fn pooled(shape: Shape) -> Shape {
    Shape {
        pools: true,
        ..shape
    }
}

const fn shape(
    input: usize,
    outputs: usize,
    kernel: [usize; 2],
    added: Option<[usize; 2]>,
) -> Shape {
    Shape {
        input,
        outputs,
        kernel,
        pools: false,
        added,
    }
}

/// Which numbers a network has.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// Those that fill all digits.
    Noise,
    /// Small whole ones, with one weight for each channel of a result, so that all sums are exact in both formats, also in
    /// the tiles that training computes.
    Whole,
}

/// What is computed from which weights.
struct Network {
    /// Height and width of its images.
    sides: [usize; 2],
    shapes: &'static [Shape],
    numbers: Numbers,
}

/// All layers of [`SHAPES`]. After a stride images are 5x6, which training computes in tiles of 2x2 results: those of 4x4
/// round whole numbers.
const WHOLE: Network = Network {
    sides: [9, 11],
    shapes: &SHAPES,
    numbers: Numbers::Whole,
};

/// Those that training computes directly too. The others are 1x1.
const DIRECT: Network = Network {
    sides: [9, 11],
    shapes: &{
        let mut shapes = SHAPES;
        shapes[4].kernel = [1, 1];
        shapes[5] = shape(5, 80, [1, 1], None);
        shapes
    },
    numbers: Numbers::Noise,
};

/// See [`SHAPES_IN_TILES`].
const IN_TILES: Network = Network {
    sides: [14, 15],
    shapes: &SHAPES_IN_TILES,
    numbers: Numbers::Noise,
};

impl Network {
    /// The layers for so many images.
    fn layers<F: Stored>(&self, images: usize) -> Vec<Layer> {
        let [height, width] = self.sides;
        let mut sizes = vec![[height, width, CHANNELS]];
        let mut layers = Vec::new();
        for shape in self.shapes {
            let [height, width, inputs] = sizes[shape.input];
            let [side, stride] = shape.kernel;
            let layer = Layer {
                images,
                height,
                width,
                inputs,
                outputs: shape.outputs,
                side,
                stride,
                pools: shape.pools,
                format: F::FORMAT,
            };
            sizes.push([layer.result_height(), layer.result_width(), layer.outputs]);
            layers.push(layer);
        }
        layers
    }

    /// Values of images.
    fn images(&self, count: usize) -> Vec<f32> {
        let noise = noise(7, count).into_iter();
        match self.numbers {
            Numbers::Noise => noise.collect(),
            Numbers::Whole => noise.map(|x| (x * 4.0).round()).collect(),
        }
    }

    fn norm(&self, seed: usize, channels: usize) -> Norm {
        let [mean, variance, gamma, beta] = [1, 2, 3, 4].map(|n| noise(10 * seed + n, channels));
        match self.numbers {
            Numbers::Noise => {
                let variance: Vec<f32> = variance.iter().map(|v| v.abs() + 0.5).collect();
                Norm::new(&mean, &variance, &gamma, &beta, 1e-3)
            }
            Numbers::Whole => {
                let [mean, beta] = [mean, beta].map(|values| values.into_iter().map(f32::round));
                let (mean, beta): (Vec<_>, Vec<_>) = (mean.collect(), beta.collect());
                let (variance, gamma) = (vec![0.25; channels], vec![0.5; channels]);
                Norm::new(&mean, &variance, &gamma, &beta, 0.0)
            }
        }
    }

    fn kernels(&self, layers: &[Layer]) -> Vec<Vec<f32>> {
        let kernel = |(index, layer): (usize, &Layer)| match self.numbers {
            Numbers::Noise => noise(10 * index, layer.kernel_len()),
            Numbers::Whole => one_weight_each(10 * index, layer),
        };
        layers.iter().enumerate().map(kernel).collect()
    }
}

/// A kernel that takes each channel of the result from one value, with a weight of 1 or -1.
fn one_weight_each(seed: usize, layer: &Layer) -> Vec<f32> {
    let mut kernel = vec![0.0; layer.kernel_len()];
    let values = layer.kernel_len() / layer.outputs;
    for (o, choice) in noise(seed, layer.outputs).into_iter().enumerate() {
        let value = (choice.abs() * values as f32) as usize;
        kernel[value * layer.outputs + o] = 1f32.copysign(choice);
    }
    kernel
}

fn lanes<F: Stored>(values: &[f32]) -> Vec<F::Lanes> {
    norm::lanes(values).iter().map(F::of).collect()
}

/// The result for the images `x`, the layers one after another for all of them.
fn one_by_one<F: Stored>(
    network: &Network,
    isa: Isa,
    layers: &[Layer],
    x: &[f32],
) -> Vec<F::Lanes> {
    let mut values = vec![lanes::<F>(x)];
    let kernels = network.kernels(layers);
    for (index, (layer, shape)) in layers.iter().zip(network.shapes).enumerate() {
        let skip = shape.added.map(|[value, stride]| {
            let [height, width, channels] = match value {
                0 => [network.sides[0], network.sides[1], CHANNELS],
                _ => {
                    let layer = &layers[value - 1];
                    [layer.result_height(), layer.result_width(), layer.outputs]
                }
            };
            let mut skip = Vec::new();
            for pixel in 0..layer.images * height * width {
                let (i, j) = (pixel / width % height, pixel % width);
                if i % stride == 0 && j % stride == 0 {
                    let parts = channels / 16;
                    skip.extend_from_slice(&values[value][pixel * parts..][..parts]);
                    skip.resize(skip.len() + layer.output_parts() - parts, F::ZERO);
                }
            }
            skip
        });
        let nothing = F::of(&[f32::NAN; 16]);
        let mut y = vec![nothing; layer.result_values() / 16];
        let mut chosen = match layer.pools {
            true => y.clone(),
            false => Vec::new(),
        };
        let mut out = Output::<F> {
            y: &mut y,
            moments: &mut vec![0.0; 2 * layer.outputs],
            chosen: &mut chosen,
        };
        let forward = match layer.side {
            1 => pointwise::forward::<F>,
            _ => conv3x3::forward::<F>,
        };
        let (x, norm) = (&values[shape.input], &network.norm(index, layer.inputs));
        forward(
            isa,
            layer,
            norm,
            x,
            &kernels[index],
            skip.as_deref(),
            &mut out,
        );
        values.push(y);
    }
    values.pop().unwrap()
}

/// The result for the images `x`, all layers at once.
fn at_once<F: Stored>(network: &Network, isa: Isa, layers: &[Layer], x: &[f32]) -> Vec<F::Lanes> {
    let kernels = network.kernels(layers);
    let steps = layers.iter().zip(network.shapes).zip(&kernels).enumerate();
    let steps: Vec<_> = steps
        .map(|(index, ((layer, shape), kernel))| Step {
            layer: *layer,
            norm: network.norm(index, layer.inputs),
            kernel,
            input: shape.input,
            added: shape.added.map(|[value, stride]| Added { value, stride }),
        })
        .collect();
    let nothing = F::of(&[f32::NAN; 16]);
    let mut y = vec![nothing; layers[layers.len() - 1].result_values() / 16];
    let x = lanes::<F>(x);
    inference::forward(isa, &Input::<F>::Value(&x), &steps, &mut y);
    y
}

fn bits<F: Stored>(lanes: &[F::Lanes]) -> Vec<[u32; 16]> {
    lanes.iter().map(F::bits).collect()
}

fn check<F: Stored>(network: &Network) {
    for images in [1, 2, 3, 35] {
        let layers = network.layers::<F>(images);
        let x = network.images(layers[0].input_values());
        let mut on_first_set = None;
        for isa in sets() {
            let expected = bits::<F>(&one_by_one::<F>(network, isa, &layers, &x));
            let got = bits::<F>(&at_once::<F>(network, isa, &layers, &x));
            assert!(got == expected, "{isa}, {:?}, {images} images", F::FORMAT);
            assert!(expected.iter().flatten().any(|bits| *bits != 0));
            // AMX sums pairs of bf16 in another order.
            if F::VALUES == 1 || isa != Isa::Amx {
                let first = on_first_set.get_or_insert_with(|| got.clone());
                assert!(got == *first, "{isa} has bits of its own");
            }
        }
    }
}

#[test]
fn images_get_the_bits_that_the_layers_give_one_after_another_in_f32() {
    [DIRECT, WHOLE, IN_TILES].iter().for_each(check::<F32>);
}

#[test]
fn images_get_the_bits_that_the_layers_give_one_after_another_in_bf16() {
    [DIRECT, WHOLE, IN_TILES].iter().for_each(check::<Bf16>);
}

/// Which values of a result are finite.
fn finite<F: Stored>(lanes: &[F::Lanes]) -> Vec<bool> {
    let values = lanes.iter().flat_map(F::values);
    values.map(f32::is_finite).collect()
}

fn wrong_values<F: Stored>(network: &Network) {
    let layers = network.layers::<F>(3);
    // In the first pixel of the second image, which every stride meets.
    let place = layers[0].input_len() * 16 + 5;
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut x = network.images(layers[0].input_values());
        x[place] = wrong;
        for isa in sets() {
            let got = finite::<F>(&at_once::<F>(network, isa, &layers, &x));
            let expected = finite::<F>(&one_by_one::<F>(network, isa, &layers, &x));
            assert_eq!(got, expected, "{isa}, {wrong}");
            let images: Vec<bool> = got
                .chunks(got.len() / 3)
                .map(|image| image.contains(&false))
                .collect();
            assert_eq!(images, [false, true, false], "{isa}, {wrong}");
        }
    }
}

#[test]
fn what_is_no_finite_number_reaches_the_result_of_its_image_alone() {
    for network in [WHOLE, IN_TILES] {
        wrong_values::<F32>(&network);
        wrong_values::<Bf16>(&network);
    }
}
