//! The one ordered table of state tensors, and the few flat arrays that carry them on a device.
//!
//! Weights, moving statistics and momentum slots are saved under these names. On a device they lie
//! in three flat arrays, one behind the other: a step takes and returns three buffers, not a
//! thousand, its update is one operation, and so is the sum of the gradients over replicas. Nothing
//! else in the project knows an index or an offset.

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

/// A flat array on the device that holds all tensors of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// All weights, those that decay first.
    Weights,
    /// All moving statistics.
    Statistics,
    /// The momentum slots, each at the offset of its weight.
    Momentum,
}

impl Array {
    /// The array's name as an input of a computation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Statistics => "statistics",
            Self::Momentum => "momentum",
        }
    }
}

/// The flat arrays in the order in which computations take and return them. The network itself
/// reads the first two.
pub const ARRAYS: [Array; 3] = [Array::Weights, Array::Statistics, Array::Momentum];
/// How many of [`ARRAYS`] the network itself reads.
pub const NETWORK_ARRAYS: usize = 2;

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

    /// The array that holds the tensor.
    pub fn array(&self) -> Array {
        match self.role {
            Role::Weight { .. } => Array::Weights,
            Role::MovingStatistic => Array::Statistics,
            Role::Momentum => Array::Momentum,
        }
    }

    /// Whether the L2 penalty counts the tensor.
    fn decays(&self) -> bool {
        self.role == Role::Weight { decays: true }
    }
}

/// The ordered table: first the network's weights and moving statistics in the order in which data
/// meets them, then one momentum slot for each weight.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    /// Where in its array each tensor begins.
    offsets: Vec<usize>,
    network_len: usize,
}

impl Layout {
    /// The table of `network`.
    pub fn new(network: &ResNet) -> Self {
        let network = network.tensors();
        let mut offsets = vec![0; network.len()];
        let decaying = place(&network, &mut offsets, 0, |t| t.decays());
        place(&network, &mut offsets, decaying, |t| {
            t.array() == Array::Weights && !t.decays()
        });
        place(&network, &mut offsets, 0, |t| {
            t.array() == Array::Statistics
        });

        let network_len = network.len();
        let mut tensors = network;
        for index in 0..network_len {
            let weight = &tensors[index];
            if weight.array() == Array::Weights {
                let slot = TensorSpec {
                    name: momentum_name(&weight.name),
                    dims: weight.dims.clone(),
                    init: Init::Zeros,
                    role: Role::Momentum,
                };
                tensors.push(slot);
                offsets.push(offsets[index]);
            }
        }
        Self {
            tensors,
            offsets,
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

    /// The tensors of `array` in the order in which they lie there, one behind the other.
    pub fn tensors_of(&self, array: Array) -> Vec<&TensorSpec> {
        let all = self.tensors.iter().zip(&self.offsets);
        let mut tensors: Vec<_> = all.filter(|(t, _)| t.array() == array).collect();
        tensors.sort_by_key(|(_, offset)| *offset);
        tensors.into_iter().map(|(tensor, _)| tensor).collect()
    }

    /// Elements of `array`.
    pub fn len_of(&self, array: Array) -> usize {
        length(&self.tensors, |t| t.array() == array)
    }

    /// Elements of the weights that decay: the first ones of [`Array::Weights`].
    pub fn decaying_len(&self) -> usize {
        length(&self.tensors, |t| t.decays())
    }

    /// The flat arrays of `values`, which has the values of each tensor of [`Self::state`], or of
    /// [`Self::network`]: three arrays, or the network's two.
    ///
    /// # Panics
    /// When a tensor has more or fewer values than its dimensions say.
    pub fn join(&self, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let arrays = if values.len() > self.network_len {
            &ARRAYS[..]
        } else {
            &ARRAYS[..NETWORK_ARRAYS]
        };
        let mut flat: Vec<_> = arrays.iter().map(|a| vec![0.0; self.len_of(*a)]).collect();
        for (index, values) in values.iter().enumerate() {
            let spec = &self.tensors[index];
            let start = self.offsets[index];
            flat[spec.array() as usize][start..start + spec.len()].copy_from_slice(values);
        }
        flat
    }

    /// The values of each tensor of [`Self::state`], or of [`Self::network`] where there are only its
    /// arrays: the reverse of [`Self::join`].
    ///
    /// # Panics
    /// When an array is shorter than [`Self::len_of`] says.
    pub fn split(&self, arrays: &[Vec<f32>]) -> Vec<Vec<f32>> {
        (0..self.tensors.len())
            .filter(|index| (self.tensors[*index].array() as usize) < arrays.len())
            .map(|index| self.values(index, arrays).to_vec())
            .collect()
    }

    /// The values of the tensor at `index` of [`Self::state`].
    ///
    /// # Panics
    /// When its array is not there, or shorter than [`Self::len_of`] says.
    pub fn values<'a>(&self, index: usize, arrays: &'a [Vec<f32>]) -> &'a [f32] {
        let spec = &self.tensors[index];
        &arrays[spec.array() as usize][self.offsets[index]..][..spec.len()]
    }

    /// Elements of all weights.
    pub fn trainable_parameters(&self) -> usize {
        self.len_of(Array::Weights)
    }

    /// Elements of weights and moving statistics: what Keras counts as "total params".
    pub fn total_parameters(&self) -> usize {
        self.network().iter().map(TensorSpec::len).sum()
    }
}

/// Lays the tensors that `chosen` picks one behind the other, from `start`; returns the end.
fn place(
    tensors: &[TensorSpec],
    offsets: &mut [usize],
    start: usize,
    chosen: impl Fn(&TensorSpec) -> bool,
) -> usize {
    let mut end = start;
    for (tensor, offset) in tensors.iter().zip(offsets) {
        if chosen(tensor) {
            *offset = end;
            end += tensor.len();
        }
    }
    end
}

/// Elements of the tensors that `chosen` picks.
fn length(tensors: &[TensorSpec], chosen: impl Fn(&TensorSpec) -> bool) -> usize {
    let picked = tensors.iter().filter(|t| chosen(t));
    picked.map(TensorSpec::len).sum()
}

/// The name of the momentum slot of weight `name`.
pub fn momentum_name(name: &str) -> String {
    format!("{MOMENTUM_PREFIX}{name}")
}
