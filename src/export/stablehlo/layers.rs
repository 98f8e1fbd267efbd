//! The layers of a network as StableHLO's operations. Images are NHWC, kernels HWIO, as everywhere in this program.

use std::collections::HashMap;

use xla_graphs::TensorSpec;
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::widen::Widen;
use xla_graphs::ops::{Lowering, overlapping_pool};

use super::body::{Body, Value, tensor};
use crate::data::{CHANNELS, Normalization};
use crate::export::Exported;
use crate::export::translate::{Translate, features, widening_kernel};

/// Translates layers, from the first to the last.
struct Translation<'a> {
    tensors: HashMap<&'a str, (&'a TensorSpec, &'a [f32])>,
    body: Body,
    zero: Value,
}

/// A module whose function `main` is the whole network, from raw pixels to logits.
pub fn module(exported: &Exported) -> String {
    let info = &exported.info;
    let network = &exported.network;
    let mut body = Body::default();
    let zero = body.constant(&[], &[0.0]);
    let mut translation = Translation {
        tensors: exported.tensors(),
        body,
        zero,
    };
    let images = [
        exported.batch_size,
        info.spec.side,
        info.spec.side,
        CHANNELS,
    ];
    let pixels = translation.normalise(&info.normalization, &images);
    let features = features(&mut translation, network, &pixels);
    let logits = translation.classify(&network.dense, &features);
    let (images, kind) = (tensor(&images, "ui8"), logits.kind());
    format!(
        "module {{\n  func.func public @main(%images: {images}) -> {kind} {{\n{}    return {} : {kind}\n  }}\n}}\n",
        translation.body.text, logits.name
    )
}

impl Translation<'_> {
    /// Raw pixels as the network was trained on them.
    fn normalise(&mut self, normalization: &Normalization, dims: &[usize]) -> Value {
        let (from, to) = (tensor(dims, "ui8"), tensor(dims, "f32"));
        let body = &mut self.body;
        let pixels = body.add(
            dims,
            &format!("stablehlo.convert %images : ({from}) -> {to}"),
        );
        let mean = body.constant(&[CHANNELS], &normalization.mean);
        let mean = body.spread(&mean, dims);
        let centred = body.binary("subtract", &pixels, &mean);
        let scale = body.constant(&[CHANNELS], &normalization.scale());
        let scale = body.spread(&scale, dims);
        body.binary("multiply", &centred, &scale)
    }

    /// Logits of the means of the features' channels.
    fn classify(&mut self, dense: &Dense, features: &Value) -> Value {
        let (n, area) = (features.dims[0], features.dims[1] * features.dims[2]);
        let (kind, zero) = (features.kind(), &self.zero.name);
        let pooled = [n, dense.inputs];
        let to = tensor(&pooled, "f32");
        let operation = format!(
            "stablehlo.reduce({} init: {zero}) applies stablehlo.add across dimensions = [1, 2] : ({kind}, tensor<f32>) -> {to}",
            features.name
        );
        let sums = self.body.add(&pooled, &operation);
        let area = self.body.constant(&[], &[area as f32]);
        let area = self.body.spread(&area, &pooled);
        let means = self.body.binary("divide", &sums, &area);

        let [kernel, bias] =
            ["kernel", "bias"].map(|constant| self.constant(&format!("{}/{constant}", dense.name)));
        let dims = [n, dense.outputs];
        let operation = format!(
            "stablehlo.dot_general {}, {}, contracting_dims = [1] x [0] : ({to}, {}) -> {}",
            means.name,
            kernel.name,
            kernel.kind(),
            tensor(&dims, "f32")
        );
        let product = self.body.add(&dims, &operation);
        let bias = self.body.spread(&bias, &dims);
        self.body.binary("add", &product, &bias)
    }

    /// The tensor called `name` as it is.
    fn constant(&mut self, name: &str) -> Value {
        let (spec, values) = self.tensors[name];
        self.body.constant(&spec.dims, values)
    }
}

impl Translate for Translation<'_> {
    type Images = Value;

    fn batch_norm(&mut self, bn: &BatchNorm, x: &Value) -> Value {
        let constants = ["gamma", "beta", "moving_mean", "moving_variance"];
        let constants = constants.map(|constant| self.constant(&format!("{}/{constant}", bn.name)));
        let names = constants.each_ref().map(|constant| constant.name.as_str());
        let (names, of_channels) = (
            names.join(", "),
            [constants[0].kind().as_str(); 4].join(", "),
        );
        // In all its digits, since MLIR reads no 1e-5 without a point.
        let (x_name, kind, epsilon) = (&x.name, x.kind(), bn.epsilon);
        let operation = format!(
            "\"stablehlo.batch_norm_inference\"({x_name}, {names}) <{{epsilon = {epsilon} : f32, feature_index = 3 : i64}}> \
             : ({kind}, {of_channels}) -> {kind}"
        );
        self.body.add(&x.dims, &operation)
    }

    fn relu(&mut self, _behind: &str, x: &Value) -> Value {
        let zero = self.body.spread(&self.zero, &x.dims);
        self.body.binary("maximum", x, &zero)
    }

    fn convolve(&mut self, conv: &Conv, x: &Value) -> Value {
        let kernel = self.constant(&conv.kernel());
        self.convolution(conv, &kernel, x)
    }

    fn pool_stem(&mut self, padding: Padding, x: &Value) -> Value {
        let (side, stride) = (overlapping_pool::SIDE, overlapping_pool::STRIDE);
        let sizes = [x.dims[1], x.dims[2]];
        let [height, width] = sizes.map(overlapping_pool::output_side);
        let [rows, columns] = sizes.map(|size| {
            let (low, high) = padding.of(size, side, stride);
            format!("[{low}, {high}]")
        });
        let padding =
            format!(", padding = dense<[[0, 0], {rows}, {columns}, [0, 0]]> : tensor<4x2xi64>");
        let dims = [x.dims[0], height, width, x.dims[3]];
        self.max_pool(x, dims, (side, stride), &padding)
    }

    fn widen(&mut self, unit: &str, widen: &Widen, x: &Value) -> Value {
        let dims = [1, 1, widen.inputs, widen.outputs];
        let kernel = self.body.constant(&dims, &widening_kernel(widen));
        let conv = Conv {
            name: format!("{unit}/shortcut"),
            side: 1,
            stride: widen.stride,
            inputs: widen.inputs,
            outputs: widen.outputs,
            padding: Padding::Far,
            lowering: Lowering::Native,
        };
        self.convolution(&conv, &kernel, x)
    }

    fn add(&mut self, _unit: &str, y: &Value, shortcut: &Value) -> Value {
        self.body.binary("add", y, shortcut)
    }

    fn pool(&mut self, _unit: &str, x: &Value) -> Value {
        let dims = [x.dims[0], x.dims[1] / 2, x.dims[2] / 2, x.dims[3]];
        self.max_pool(x, dims, (2, 2), "")
    }
}

impl Translation<'_> {
    /// `conv` with the values of `kernel`.
    fn convolution(&mut self, conv: &Conv, kernel: &Value, x: &Value) -> Value {
        let [n, height, width] = [x.dims[0], x.dims[1], x.dims[2]];
        let dims = [
            n,
            conv.output_side(height),
            conv.output_side(width),
            conv.outputs,
        ];
        let pad = [height, width].map(|side| {
            let (low, high) = conv.forward_padding(side);
            format!("[{low}, {high}]")
        });
        let (stride, pad) = (conv.stride, pad.join(", "));
        let operation = format!(
            "stablehlo.convolution({}, {}) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = {{stride = \
             [{stride}, {stride}], pad = [{pad}]}} {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : \
             ({}, {}) -> {}",
            x.name,
            kernel.name,
            x.kind(),
            kernel.kind(),
            tensor(&dims, "f32")
        );
        self.body.add(&dims, &operation)
    }

    /// Maxima of squares of `side` pixels that move by `stride`, with the attribute `padding`.
    fn max_pool(
        &mut self,
        x: &Value,
        dims: [usize; 4],
        (side, stride): (usize, usize),
        padding: &str,
    ) -> Value {
        let least = self.body.constant(&[], &[f32::NEG_INFINITY]);
        let operation = format!(
            "\"stablehlo.reduce_window\"({}, {}) <{{window_dimensions = array<i64: 1, {side}, {side}, 1>, window_strides = \
             array<i64: 1, {stride}, {stride}, 1>{padding}}}> ({{\n    ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n      %larger = stablehlo.maximum %a, %b : \
             tensor<f32>\n      stablehlo.return %larger : tensor<f32>\n    }}) : ({}, tensor<f32>) -> {}",
            x.name,
            least.name,
            x.kind(),
            tensor(&dims, "f32")
        );
        self.body.add(&dims, &operation)
    }
}
