//! The operations of a training step, each with its count, floating-point operations and bytes.

use std::fmt;

use serde::Serialize;
use xla::ElementType;
use xla_graphs::network::Unit;
use xla_graphs::ops::Lowering;
use xla_graphs::ops::conv::Conv;
use xla_graphs::{Layout, Precision, ResNet};

/// Bytes of an f32.
const F32: usize = 4;
/// Floating-point operations of a normalisation and its ReLU, per value.
const NORM: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    Forward,
    Backward,
    Update,
}

/// What an operation does. A layer's backward pass takes the gradient from the output of the batch norm that
/// follows it to the output of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first convolution.
    Stem,
    /// BN-ReLU-convolution; a batch norm follows.
    Inner,
    /// BN-ReLU-convolution and the sum with the skip.
    Last,
    /// On the way back, [`Kind::Norm`] of the unit behind, and then a last layer that is a 1x1 convolution.
    Junction { joined: bool },
    /// The shortcut's convolution of the first activation, in a unit that changes the shape.
    Shortcut,
    /// The backward pass of a unit's first batch norm. If `joined`, the gradients of the unit and of its
    /// shortcut meet at its output; otherwise the skip's joins at its input.
    Norm { joined: bool },
    /// Last batch norm, pooling, classifier and loss.
    Head,
    /// SGD on all weights.
    Update,
}

/// One operation. All sizes are those of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    pub kind: Kind,
    pub pass: Pass,
    /// Side of the input images.
    pub side: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the convolution's kernel.
    pub kernel: usize,
    pub stride: usize,
}

/// The distinct operations of a training step of `network` on images of `side` rows and columns, with their counts.
pub fn operations(network: &ResNet, mut side: usize) -> Vec<(Op, usize)> {
    let mut forward = vec![Op::conv(Kind::Stem, side, &network.stem)];
    let (mut backward, mut norms) = (forward.clone(), Vec::new());
    for unit in &network.units {
        let joined = unit.shortcut.projection().is_some();
        match backward.iter_mut().rfind(|op| op.kind == Kind::Last) {
            Some(before) if before.kernel == 1 => before.kind = Kind::Junction { joined },
            _ => {
                let channels = unit.inputs();
                norms.push(Op::plain(Kind::Norm { joined }, side, channels, channels));
            }
        }
        let layers;
        (layers, side) = layers_of(unit, side);
        forward.extend(&layers);
        backward.extend(&layers);
    }
    let (inputs, classes) = (network.dense.inputs, network.dense.outputs);
    let head = Op::plain(Kind::Head, side, inputs, classes);
    forward.push(head);
    backward.push(head);
    backward.append(&mut norms);
    let backward = backward.into_iter().map(|op| Op {
        pass: Pass::Backward,
        ..op
    });
    let parameters = Layout::new(network.tensors(), &[]).trainable_parameters();
    let update = Op {
        pass: Pass::Update,
        ..Op::plain(Kind::Update, 1, parameters, parameters)
    };
    counted(forward.into_iter().chain(backward).chain([update]))
}

/// The layers of `unit` on images of side `side`, and the side of its output.
fn layers_of(unit: &Unit, side: usize) -> (Vec<Op>, usize) {
    let (mut layers, mut output) = (Vec::new(), side);
    for (index, layer) in unit.layers.iter().enumerate() {
        let last = index + 1 == unit.layers.len();
        let kind = if last { Kind::Last } else { Kind::Inner };
        layers.push(Op::conv(kind, output, &layer.conv));
        output = layer.conv.output_side(output);
    }
    let shortcut = unit.shortcut.projection();
    layers.extend(shortcut.map(|conv| Op::conv(Kind::Shortcut, side, conv)));
    (layers, if unit.pools { output / 2 } else { output })
}

/// Each operation once, in the order in which it first came.
fn counted(ops: impl Iterator<Item = Op>) -> Vec<(Op, usize)> {
    let mut counts: Vec<(Op, usize)> = Vec::new();
    for op in ops {
        match counts.iter_mut().find(|(known, _)| *known == op) {
            Some((_, count)) => *count += 1,
            None => counts.push((op, 1)),
        }
    }
    counts
}

impl Op {
    fn conv(kind: Kind, side: usize, conv: &Conv) -> Self {
        Self {
            kind,
            pass: Pass::Forward,
            side,
            inputs: conv.inputs,
            outputs: conv.outputs,
            kernel: conv.side,
            stride: conv.stride,
        }
    }

    /// Without a convolution.
    fn plain(kind: Kind, side: usize, inputs: usize, outputs: usize) -> Self {
        Self {
            kind,
            pass: Pass::Forward,
            side,
            inputs,
            outputs,
            kernel: 1,
            stride: 1,
        }
    }

    pub fn output_side(&self) -> usize {
        self.side.div_ceil(self.stride)
    }

    /// Values of an input image.
    pub fn input_len(&self) -> usize {
        self.side * self.side * self.inputs
    }

    /// Values of an output image.
    pub fn output_len(&self) -> usize {
        self.output_side() * self.output_side() * self.outputs
    }

    fn kernel_len(&self) -> usize {
        self.kernel * self.kernel * self.inputs * self.outputs
    }

    /// Floating-point operations for `batch` images, counted as `summary` counts those of the forward
    /// pass; the backward pass counts twice its forward pass.
    pub fn flops(&self, batch: usize) -> usize {
        let conv = 2 * self.kernel_len() * self.output_side() * self.output_side();
        let forward = match (self.kind, self.pass) {
            (Kind::Stem | Kind::Shortcut, _) => conv,
            (Kind::Inner, Pass::Backward) => conv + NORM * self.output_len(),
            (Kind::Inner, _) => conv + NORM * self.input_len(),
            (Kind::Last, Pass::Backward) => conv + self.output_len(),
            (Kind::Junction { .. }, _) => conv + (1 + NORM) * self.output_len(),
            (Kind::Last, _) => conv + NORM * self.input_len() + self.output_len(),
            (Kind::Norm { .. }, _) => NORM * self.input_len(),
            // Normalisation, sum over pixels, product with the classifier.
            (Kind::Head, _) => (NORM + 1) * self.input_len() + 2 * self.inputs * self.outputs,
            (Kind::Update, _) => 0,
        };
        let passes = if self.pass == Pass::Backward { 2 } else { 1 };
        batch * passes * forward
    }

    /// The element type of its images in a network of `precision`. On the kernels, the first and the last operation take
    /// f32 in any case.
    pub fn images(&self, lowering: Lowering, precision: Precision) -> ElementType {
        let outside = matches!(self.kind, Kind::Stem | Kind::Head);
        match precision {
            Precision::Bf16 if lowering != Lowering::Kernels || !outside => ElementType::Bf16,
            _ => ElementType::F32,
        }
    }

    /// The fewest bytes that must be read and written for `batch` images in `precision` on the kernels: each
    /// activation, gradient and kernel once.
    pub fn bytes(&self, batch: usize, precision: Precision) -> usize {
        // A 1x1 kernel does not see what lies between its strides.
        let seen = self.input_len() / (self.stride * self.stride);
        let (input, output) = (self.input_len(), self.output_len());
        let per_image = match (self.kind, self.pass) {
            (Kind::Stem, _) => input + output,
            (Kind::Inner | Kind::Shortcut, Pass::Forward) => seen + output,
            (Kind::Last, Pass::Forward) => seen + 2 * output,
            // Input, gradient and what was normalised behind the layer; the gradient of the input.
            (Kind::Inner, _) => seen + 2 * output + input,
            (Kind::Last | Kind::Shortcut, _) => seen + output + input,
            // As the last layer and the norm behind it together, but the sum is not read again.
            (Kind::Junction { .. }, _) => seen + 4 * output + input,
            // Gradient, input, skip; the gradient of the input.
            (Kind::Norm { .. }, _) => 4 * input,
            (Kind::Head, Pass::Forward) => input,
            (Kind::Head, _) => 2 * input,
            (Kind::Update, _) => 0,
        };
        let weights = match (self.kind, self.pass) {
            // Weights and velocity, read and written, and the gradient.
            (Kind::Update, _) => 5 * self.inputs,
            (Kind::Norm { .. }, _) => 0,
            // The kernel and its gradient.
            (_, Pass::Backward) => 2 * self.kernel_len(),
            _ => self.kernel_len(),
        };
        let images = self.images(Lowering::Kernels, precision);
        images.element_size_in_bytes() * batch * per_image + F32 * weights
    }

    /// Dimensions of `batch` input images.
    pub fn input_dims(&self, batch: usize) -> [usize; 4] {
        [batch, self.side, self.side, self.inputs]
    }

    /// Dimensions of `batch` output images.
    pub fn output_dims(&self, batch: usize) -> [usize; 4] {
        let side = self.output_side();
        [batch, side, side, self.outputs]
    }

    /// Input images and output channels.
    pub fn shape(&self) -> String {
        let images = format!("{0}x{0}x{1}", self.side, self.inputs);
        match self.kind {
            Kind::Update => format!("{} weights", self.inputs),
            Kind::Norm { .. } => images,
            _ => format!("{images} to {}", self.outputs),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let conv = format!("{0}x{0}", self.kernel);
        match self.kind {
            Kind::Stem => write!(f, "first {conv}"),
            Kind::Inner => write!(f, "BN-ReLU-{conv}"),
            Kind::Last => write!(f, "BN-ReLU-{conv} + skip"),
            Kind::Junction { joined: false } => write!(f, "BN + skip, BN-ReLU-{conv}"),
            Kind::Junction { joined: true } => write!(f, "BN of both, BN-ReLU-{conv}"),
            Kind::Shortcut => write!(f, "shortcut {conv}"),
            Kind::Norm { joined: false } => f.write_str("BN + skip"),
            Kind::Norm { joined: true } => f.write_str("BN of both branches"),
            Kind::Head => f.write_str("BN-ReLU-pool-dense-loss"),
            Kind::Update => f.write_str("update"),
        }?;
        if self.stride > 1 {
            write!(f, ", stride {}", self.stride)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::Summary;
    use xla_graphs::Architecture;

    fn network(depth: usize) -> ResNet {
        let architecture = Architecture::resnet_v2(depth).unwrap();
        ResNet::new(&architecture, 10, Lowering::Native).unwrap()
    }

    #[test]
    fn the_operations_add_up_to_three_times_the_forward_pass() {
        for depth in [11, 20, 164] {
            let network = network(depth);
            let ops = operations(&network, 32);
            let flops: usize = ops.iter().map(|(op, count)| count * op.flops(128)).sum();
            assert_eq!(
                flops,
                3 * 128 * Summary::of(&network, 32).flops,
                "depth {depth}"
            );
        }
    }

    #[test]
    fn every_convolution_runs_forwards_and_backwards() {
        for depth in [11, 164] {
            // Depth counts those of the units but for the shortcuts, the first, and the dense layer.
            let convolutions = depth - 1 + 3;
            for pass in [Pass::Forward, Pass::Backward] {
                let of_pass = operations(&network(depth), 32);
                let of_pass = of_pass.iter().filter(|(op, _)| {
                    op.pass == pass
                        && matches!(
                            op.kind,
                            Kind::Stem
                                | Kind::Inner
                                | Kind::Last
                                | Kind::Junction { .. }
                                | Kind::Shortcut
                        )
                });
                assert_eq!(
                    of_pass.map(|(_, count)| count).sum::<usize>(),
                    convolutions,
                    "depth {depth}"
                );
            }
        }
    }

    #[test]
    fn a_norm_is_alone_only_where_no_1x1_layer_lies_in_front_of_it() {
        // Three units in each stage; in the first of each, two branches meet.
        let ops = operations(&network(29), 32);
        let count = |kind| -> usize {
            let of_kind = ops.iter().filter(|(op, _)| op.kind == kind);
            of_kind.map(|(_, count)| count).sum()
        };
        assert_eq!(count(Kind::Norm { joined: true }), 1);
        assert_eq!(count(Kind::Norm { joined: false }), 0);
        assert_eq!(count(Kind::Junction { joined: true }), 2);
        assert_eq!(count(Kind::Junction { joined: false }), 6);
    }

    #[test]
    fn a_strided_1x1_reads_a_quarter_of_its_input() {
        let ops = operations(&network(11), 32);
        let strided = |pass| {
            let found = ops
                .iter()
                .find(|(op, _)| op.stride == 2 && op.kind == Kind::Inner && op.pass == pass);
            found.unwrap().0
        };
        // 32x32x64 to 16x16x32, two images.
        let (seen, whole, out, kernel) = (16_384, 65_536, 8_192, 2_048);
        let (forward, backward) = (strided(Pass::Forward), strided(Pass::Backward));
        let images = 2 * (seen + out);
        assert_eq!(forward.bytes(2, Precision::F32), 4 * (images + kernel));
        // Weights are f32 in any case.
        assert_eq!(forward.bytes(2, Precision::Bf16), 2 * images + 4 * kernel);
        assert_eq!(
            backward.bytes(2, Precision::F32),
            4 * (2 * (seen + 2 * out + whole) + 2 * kernel)
        );
    }
}
