//! The CPU's kernels behind a plugin: the same bits as on the XLA runtime's own CPU, in f32 and in bf16.
//!
//! What XLA itself computes, another version of it may round otherwise. So the graphs here have calls of kernels, copies of
//! what goes between them, and conversions from f32 and to it, which have one right result.

mod program;

use program::in_process::{open_cpu, open_cpu_plugin};
use program::plugins::cpu_plugin;
use resnet_xla::device::{Device, DeviceKind};
use xla::{ElementType, PrimitiveType, XlaBuilder, XlaOp};
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::Lowering;
use xla_graphs::ops::batch_norm::{BatchNorm, EPSILON};
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::kernels::{self, Features, Gradient, Inference};
use xla_graphs::tensors::Tensors;

#[test]
fn a_plugin_s_kernels_give_the_bits_of_the_runtime_s_own_cpu() {
    let Some(plugin) = cpu_plugin() else { return };
    if !cpu_kernels::supported() {
        println!("skipped: this processor runs no kernels");
        return;
    }
    let own = open_cpu(1, "");
    let plugin = open_cpu_plugin(&plugin, "");
    assert_eq!(plugin.kind, DeviceKind::CpuPluginWithKernels);
    for chain in [
        Chain::new([19, 6, 5, 64], [(1, 16), (3, 32)]),
        Chain::new([19, 6, 5, 16], [(3, 16), (1, 64)]),
        // In tiles.
        Chain::new([3, 7, 6, 128], [(3, 128), (1, 32)]),
    ] {
        for images in [PrimitiveType::F32, PrimitiveType::Bf16] {
            let (hlo, inputs) = chain.traced(images);
            let [expected, got] = [&own, &plugin].map(|device| run(device, &hlo, &inputs));
            assert_eq!(got.len(), expected.len());
            let pairs = got.iter().zip(&expected);
            let others = pairs.filter(|(got, expected)| got.to_bits() != expected.to_bits());
            assert_eq!(others.count(), 0, "{:?} in {images:?}", chain.x_dims);
            let zeros = expected.iter().filter(|value| **value == 0.0).count();
            println!("{} values, {zeros} of them 0", expected.len());
            assert!(2 * zeros < expected.len() && expected.iter().all(|v| v.is_finite()));
        }
    }
}

/// An array of a graph's inputs.
struct Input {
    dims: Vec<usize>,
    values: Vec<f32>,
}

/// The values that the program `hlo` gives `inputs` on `device`.
fn run(device: &Device, hlo: &[u8], inputs: &[Input]) -> Vec<f32> {
    let upload = |input: &Input| device.upload(&input.values, &input.dims, 0).unwrap();
    let inputs: Vec<_> = inputs.iter().map(upload).collect();
    let inputs = inputs.iter().map(Box::as_ref).collect();
    let executable = device.compile(hlo, 1).unwrap();
    let outputs = executable.run(&[inputs]).unwrap();
    outputs[0][0].to_f32().unwrap()
}

/// Two layers, one behind the other, and their input.
struct Chain {
    x_dims: [usize; 4],
    layers: [(BatchNorm, Conv); 2],
}

impl Chain {
    /// Layers of kernels with these sides and channels, and stride 1, behind images `x_dims` `[N, H, W, C]`.
    fn new(x_dims: [usize; 4], shapes: [(usize, usize); 2]) -> Self {
        let mut inputs = x_dims[3];
        let layers = [0, 1].map(|index| {
            let (side, outputs) = shapes[index];
            let bn = BatchNorm {
                name: format!("b{index}"),
                channels: inputs,
                epsilon: EPSILON,
                lowering: Lowering::Kernels,
            };
            let conv = Conv {
                name: format!("c{index}"),
                side,
                stride: 1,
                inputs,
                outputs,
                padding: Padding::Far,
                lowering: Lowering::Kernels,
            };
            inputs = outputs;
            (bn, conv)
        });
        Self { x_dims, layers }
    }

    /// The computation with images of type `images`, as a serialised `HloModuleProto`, and its inputs: all results one after
    /// another.
    fn traced(&self, images: PrimitiveType) -> (Vec<u8>, Vec<Input>) {
        let builder = XlaBuilder::new("chain");
        let mut inputs = Vec::new();
        let mut params = Tensors::new();
        let mut parameter = |name: &str, dims: &[usize]| {
            let index = inputs.len() as i64;
            let sizes: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
            let op = builder.parameter(index, ElementType::F32, &sizes, name);
            params.insert(name, op.unwrap());
            inputs.push(input(name, dims));
        };
        let [n, h, w, _] = self.x_dims;
        let y_dims = [n, h, w, self.layers[1].1.outputs];
        parameter("x", &self.x_dims);
        parameter("skip", &y_dims);
        parameter("dy", &y_dims);
        for (bn, conv) in &self.layers {
            for spec in bn.tensors().into_iter().chain(conv.tensors()) {
                parameter(&spec.name, &spec.dims);
            }
        }
        let results = self.results(&params, images).unwrap();
        let all = results[0].concat_in_dim(&results[1..], 0).unwrap();
        let hlo = kernels::complete(&all.build().unwrap()).unwrap();
        (hlo, inputs)
    }

    /// Forwards, in inference and backwards: all that the kernels give, flat and in f32.
    fn results(&self, t: &Tensors, images: PrimitiveType) -> Result<Vec<XlaOp>> {
        let one = Replicas(1);
        let [(bn0, conv0), (bn1, conv1)] = &self.layers;
        let stored = |name| -> Result<XlaOp> { Ok(t.get(name)?.convert(images)?) };
        let (x, skip, dy) = (stored("x")?, stored("skip")?, stored("dy")?);
        let (mean, variance) = (t.get("b0/moving_mean")?, t.get("b0/moving_variance")?);
        let x = Features::new(&x, mean, variance)?;
        let h = kernels::forward(t, bn0, conv0, &x, None, one)?;
        let y = kernels::forward(t, bn1, conv1, &h, Some(&h.with_images(&skip)?), one)?;

        let first = x.images()?;
        let (mut call, value) = Inference::new(t, &first)?;
        let value = call.layer((bn0, conv0, false), value, None)?;
        call.layer((bn1, conv1, false), value, None)?;
        let inferred = call.result()?;

        let mut gradients = Tensors::new();
        let dy = Gradient::Plain(dy);
        let dz1 = kernels::backward(t, bn1, conv1, &h, &dy, one, &mut gradients)?;
        let dz1 = Gradient::BehindNorm(Box::new(dz1));
        let dz0 = kernels::backward(t, bn0, conv0, &x, &dz1, one, &mut gradients)?;
        let dx = dz0.with_skip(&first).sum(t)?;

        let mut results = vec![h.images()?, y.images()?, inferred, dx];
        results.extend([h.moments()?, y.moments()?]);
        results.extend(gradients.iter().map(|(_, gradient)| gradient.clone()));
        let flat = |result: &XlaOp| -> Result<XlaOp> {
            let len: usize = result.dims()?.iter().product();
            Ok(result.convert(PrimitiveType::F32)?.reshape(&[len as i64])?)
        };
        results.iter().map(flat).collect()
    }
}

/// Values between -1 and 1 that have a place of their own in each array; a variance's are positive.
fn input(name: &str, dims: &[usize]) -> Input {
    let first = name.bytes().map(usize::from).sum::<usize>();
    let value = |index: usize| {
        let mixed = (first + index).wrapping_mul(0x9e37_79b1) >> 12;
        let value = (mixed % 2001) as f32 / 1000.0 - 1.0;
        match name.ends_with("variance") {
            true => value.abs() + 0.5,
            false => value,
        }
    };
    let len = dims.iter().product();
    Input {
        dims: dims.to_vec(),
        values: (0..len).map(value).collect(),
    }
}
