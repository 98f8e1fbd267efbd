//! The one ordered table of state tensors.
//!
//! Weights, moving statistics and momentum slots travel between host and device in this order and
//! are saved under these names. Nothing else in the project knows an index.

use crate::resnet::ResNet;

/// Prefix of the name of a momentum slot: `momentum/<name of the weight>`.
pub const MOMENTUM_PREFIX: &str = "momentum/";

/// How a tensor gets its first value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal of variance 2 / fan_in, truncated at two standard deviations (Keras `he_normal`).
    HeNormal {
        fan_in: usize,
    },
    /// Uniform in ±sqrt(6 / (fan_in + fan_out)) (Keras `glorot_uniform`).
    GlorotUniform {
        fan_in: usize,
        fan_out: usize,
    },
    Zeros,
    Ones,
}

/// What the training step does with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Updated by gradient descent. `decays`: the L2 penalty counts it.
    Weight { decays: bool },
    /// Updated by batch normalisation from the statistics of each batch.
    MovingStatistic,
    /// The optimiser's velocity for the weight of the same name.
    Momentum,
}

/// One tensor of the training state; every state tensor is f32.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Path-like name, for example `stage1/unit01/conv2/kernel`.
    pub name: String,
    /// Dimensions: kernels HWIO, dense kernels `[in, out]`, vectors `[channels]`.
    pub dims: Vec<usize>,
    pub init: Init,
    pub role: Role,
}

impl TensorSpec {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the tensor has no elements; no tensor of a network does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The ordered table: first the network's weights and moving statistics in the order in which data
/// meets them, then one momentum slot for each weight.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    network_len: usize,
}

impl Layout {
    /// The table of `network`.
    pub fn new(network: &ResNet) -> Self {
        let mut tensors = network.tensors();
        let network_len = tensors.len();
        let momentum: Vec<_> = tensors
            .iter()
            .filter(|t| matches!(t.role, Role::Weight { .. }))
            .map(|t| TensorSpec {
                name: momentum_name(&t.name),
                dims: t.dims.clone(),
                init: Init::Zeros,
                role: Role::Momentum,
            })
            .collect();
        tensors.extend(momentum);
        Self {
            tensors,
            network_len,
        }
    }

    /// Every state tensor, in order.
    pub fn state(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The part of [`Self::state`] that the network itself reads: weights and moving statistics.
    pub fn network(&self) -> &[TensorSpec] {
        &self.tensors[..self.network_len]
    }

    /// Elements of all weights.
    pub fn trainable_parameters(&self) -> usize {
        self.network()
            .iter()
            .filter(|t| matches!(t.role, Role::Weight { .. }))
            .map(TensorSpec::len)
            .sum()
    }

    /// Elements of weights and moving statistics: what Keras counts as "total params".
    pub fn total_parameters(&self) -> usize {
        self.network().iter().map(TensorSpec::len).sum()
    }
}

/// The name of the momentum slot of weight `name`.
pub fn momentum_name(name: &str) -> String {
    format!("{MOMENTUM_PREFIX}{name}")
}
