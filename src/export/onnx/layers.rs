//! The layers of a network as ONNX's operators. Images are NCHW here, kernels OIHW.

use std::collections::HashMap;

use xla_graphs::TensorSpec;
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::overlapping_pool;
use xla_graphs::ops::widen::Widen;

use super::graph::{Nodes, float, int, ints, rows};
use super::messages::{FLOAT, Graph, UINT8};
use crate::data::{CHANNELS, Normalization};
use crate::export::Exported;
use crate::export::translate::{Translate, features, widening_kernel};

/// The graph's input and output.
const IMAGES: &str = "images";
const LOGITS: &str = "logits";

/// A value in the graph: images with so many rows and columns.
#[derive(Clone)]
struct Images {
    name: String,
    side: usize,
}

/// Translates layers, from the first to the last.
struct Translation<'a> {
    tensors: HashMap<&'a str, (&'a TensorSpec, &'a [f32])>,
    nodes: Nodes,
}

/// The whole network, from raw pixels to logits.
pub fn graph(exported: &Exported) -> Graph {
    let spec = &exported.info.spec;
    let network = &exported.network;
    let mut translation = Translation {
        tensors: exported.tensors(),
        nodes: Nodes::default(),
    };
    let images = translation.normalise(&exported.info.normalization, spec.side);
    let features = features(&mut translation, network, &images);
    translation.classify(&network.dense, &features);
    Graph {
        nodes: translation.nodes.nodes,
        name: exported.info.network().to_string(),
        constants: translation.nodes.constants,
        inputs: vec![rows(IMAGES, UINT8, &[spec.side, spec.side, CHANNELS])],
        outputs: vec![rows(LOGITS, FLOAT, &[spec.classes()])],
    }
}

impl Translation<'_> {
    /// Raw pixels `[N, side, side, 3]` as the network was trained on them, in NCHW.
    fn normalise(&mut self, normalization: &Normalization, side: usize) -> Images {
        let nodes = &mut self.nodes;
        let mean = nodes.constant("mean", &[CHANNELS], &normalization.mean);
        let scale = nodes.constant("scale", &[CHANNELS], &normalization.scale());
        let to = vec![int("to", FLOAT.into())];
        let pixels = nodes.add("pixels", "Cast", &[IMAGES], to);
        let centred = nodes.add("centred", "Sub", &[&pixels, &mean], vec![]);
        let scaled = nodes.add("scaled", "Mul", &[&centred, &scale], vec![]);
        let order = vec![ints("perm", &[0, 3, 1, 2])];
        let name = nodes.add("normalised", "Transpose", &[&scaled], order);
        Images { name, side }
    }

    /// Logits of the means of the features' channels.
    fn classify(&mut self, dense: &Dense, features: &Images) {
        let inputs = [features.name.as_str()];
        let means = (self.nodes).add("means", "GlobalAveragePool", &inputs, vec![]);
        let rows = self.nodes.add("pooled", "Flatten", &[&means], vec![]);
        let [kernel, bias] =
            ["kernel", "bias"].map(|constant| self.constant(&format!("{}/{constant}", dense.name)));
        self.nodes
            .add(LOGITS, "Gemm", &[&rows, &kernel, &bias], vec![]);
    }

    /// The tensor called `name` as it is.
    fn constant(&mut self, name: &str) -> String {
        let (spec, values) = self.tensors[name];
        self.nodes.constant(name, &spec.dims, values)
    }
}

impl Translate for Translation<'_> {
    type Images = Images;

    fn batch_norm(&mut self, bn: &BatchNorm, x: &Images) -> Images {
        let constants = ["gamma", "beta", "moving_mean", "moving_variance"];
        let [gamma, beta, mean, variance] =
            constants.map(|constant| self.constant(&format!("{}/{constant}", bn.name)));
        let inputs = [x.name.as_str(), &gamma, &beta, &mean, &variance];
        let epsilon = vec![float("epsilon", bn.epsilon)];
        Images {
            name: (self.nodes).add(&bn.name, "BatchNormalization", &inputs, epsilon),
            side: x.side,
        }
    }

    fn relu(&mut self, behind: &str, x: &Images) -> Images {
        let name = format!("{behind}/relu");
        Images {
            name: self.nodes.add(&name, "Relu", &[&x.name], vec![]),
            side: x.side,
        }
    }

    fn convolve(&mut self, conv: &Conv, x: &Images) -> Images {
        let name = conv.kernel();
        let (spec, values) = self.tensors[name.as_str()];
        let (dims, values) = oihw(&spec.dims, values);
        let kernel = self.nodes.constant(&name, &dims, &values);
        let (low, high) = conv.forward_padding(x.side);
        let attributes = vec![
            ints("kernel_shape", &[conv.side as i64; 2]),
            ints("strides", &[conv.stride as i64; 2]),
            ints("pads", &[low, low, high, high]),
        ];
        let inputs = [x.name.as_str(), &kernel];
        Images {
            name: self.nodes.add(&conv.name, "Conv", &inputs, attributes),
            side: conv.output_side(x.side),
        }
    }

    fn add(&mut self, unit: &str, y: &Images, shortcut: &Images) -> Images {
        let name = format!("{unit}/sum");
        let terms = [y.name.as_str(), &shortcut.name];
        Images {
            name: self.nodes.add(&name, "Add", &terms, vec![]),
            side: y.side,
        }
    }

    fn pool_stem(&mut self, padding: Padding, x: &Images) -> Images {
        let (side, stride) = (overlapping_pool::SIDE, overlapping_pool::STRIDE);
        let (low, high) = padding.of(x.side, side, stride);
        let attributes = vec![
            ints("kernel_shape", &[side as i64; 2]),
            ints("strides", &[stride as i64; 2]),
            ints("pads", &[low, low, high, high]),
        ];
        Images {
            name: (self.nodes).add("conv_in/max", "MaxPool", &[&x.name], attributes),
            side: overlapping_pool::output_side(x.side),
        }
    }

    fn widen(&mut self, unit: &str, widen: &Widen, x: &Images) -> Images {
        let name = format!("{unit}/shortcut");
        let dims = [1, 1, widen.inputs, widen.outputs];
        let (dims, values) = oihw(&dims, &widening_kernel(widen));
        let kernel = self.nodes.constant(&format!("{name}/ones"), &dims, &values);
        let attributes = vec![
            ints("kernel_shape", &[1; 2]),
            ints("strides", &[widen.stride as i64; 2]),
            ints("pads", &[0; 4]),
        ];
        Images {
            name: (self.nodes).add(&name, "Conv", &[&x.name, &kernel], attributes),
            side: x.side.div_ceil(widen.stride),
        }
    }

    fn pool(&mut self, unit: &str, x: &Images) -> Images {
        let attributes = vec![ints("kernel_shape", &[2; 2]), ints("strides", &[2; 2])];
        let name = format!("{unit}/max");
        Images {
            name: self.nodes.add(&name, "MaxPool", &[&x.name], attributes),
            side: x.side / 2,
        }
    }
}

/// A kernel `[h, w, in, out]` as `[out, in, h, w]`.
fn oihw(dims: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let (inputs, outputs) = (dims[2], dims[3]);
    let area = dims[0] * dims[1];
    let mut turned = Vec::with_capacity(values.len());
    for output in 0..outputs {
        for input in 0..inputs {
            for pixel in 0..area {
                turned.push(values[(pixel * inputs + input) * outputs + output]);
            }
        }
    }
    (vec![outputs, inputs, dims[0], dims[1]], turned)
}
