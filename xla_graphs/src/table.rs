//! The one ordered table of state tensors, and the few flat arrays that carry them on a device.
//!
//! Weights, moving statistics and the optimiser's slots are saved under these names. On a device they
//! lie in a few flat arrays, one tensor after another: a step takes and returns three buffers, not
//! a thousand, its update is one operation, and so is the sum of the gradients over replicas. Nothing
//! else in the project knows an index or an offset.
//!
//! ```text
//!  weights     | kernels: they decay | gammas, betas, bias |
//!  statistics  | moving means and variances |
//!  momentum    | a slot for each weight, at the offset of the weight |
//! ```

/// Colour channels of an image: the inputs of the first convolution's kernel.
pub const IMAGE_CHANNELS: usize = 3;
/// The first convolution's kernel, in every network.
pub const FIRST_KERNEL: &str = "conv_in/kernel";

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
    /// What the optimiser keeps for the weight of the same name.
    Slot(Slot),
}

/// One of the arrays that an optimiser keeps beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its place among the optimiser's slots.
    pub number: usize,
    pub name: &'static str,
}

/// A flat array on the device that holds all tensors of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// All weights, those that decay first.
    Weights,
    /// All moving statistics.
    Statistics,
    /// One slot of each weight, at the offset of its weight.
    Slot(Slot),
}

impl Array {
    /// The array's name as an input of a computation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Statistics => "statistics",
            Self::Slot(slot) => slot.name,
        }
    }

    /// The array's place in [`Layout::arrays`].
    pub fn index(self) -> usize {
        match self {
            Self::Weights => 0,
            Self::Statistics => 1,
            Self::Slot(slot) => NETWORK_ARRAYS + slot.number,
        }
    }
}

/// How many of [`Layout::arrays`] the network itself reads: the first ones.
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
            Role::Slot(slot) => Array::Slot(slot),
        }
    }

    /// Whether the L2 penalty counts the tensor.
    fn decays(&self) -> bool {
        self.role == Role::Weight { decays: true }
    }
}

/// The ordered table: first the network's weights and moving statistics in the order in which data
/// meets them, then the optimiser's slots, each with a tensor for each weight.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    /// Where in its array each tensor begins.
    offsets: Vec<usize>,
    network_len: usize,
    slots: Vec<Slot>,
}

impl Layout {
    /// The table of a network with the tensors `network`, and of an optimiser that keeps an array of
    /// each of the names `slots`. The network alone needs none.
    pub fn new(network: Vec<TensorSpec>, slots: &[&'static str]) -> Self {
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
        let slots: Vec<Slot> = slots
            .iter()
            .enumerate()
            .map(|(number, name)| Slot { number, name })
            .collect();
        for &slot in &slots {
            for index in 0..network_len {
                if tensors[index].array() == Array::Weights {
                    tensors.push(slot_of(&tensors[index], slot));
                    offsets.push(offsets[index]);
                }
            }
        }
        Self {
            tensors,
            offsets,
            network_len,
            slots,
        }
    }

    /// The flat arrays in the order in which computations take and return them. The network itself
    /// reads the first [`NETWORK_ARRAYS`].
    pub fn arrays(&self) -> Vec<Array> {
        let mut arrays = vec![Array::Weights, Array::Statistics];
        arrays.extend(self.slots.iter().copied().map(Array::Slot));
        arrays
    }

    /// The slot called `name`, if there is one.
    pub fn slot(&self, name: &str) -> Option<Array> {
        let slot = self.slots.iter().find(|slot| slot.name == name);
        slot.copied().map(Array::Slot)
    }

    /// Every state tensor, in order.
    pub fn state(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The part of [`Self::state`] that the network itself reads: weights and moving statistics.
    pub fn network(&self) -> &[TensorSpec] {
        &self.tensors[..self.network_len]
    }

    /// The tensors of `array` in the order in which they lie there, one after another.
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
    /// [`Self::network`]: all arrays, or the network's two.
    ///
    /// # Panics
    /// When a tensor has more or fewer values than its dimensions say.
    pub fn join(&self, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut arrays = self.arrays();
        if values.len() <= self.network_len {
            arrays.truncate(NETWORK_ARRAYS);
        }
        let mut flat: Vec<_> = arrays.iter().map(|a| vec![0.0; self.len_of(*a)]).collect();
        for (index, values) in values.iter().enumerate() {
            let spec = &self.tensors[index];
            let start = self.offsets[index];
            flat[spec.array().index()][start..start + spec.len()].copy_from_slice(values);
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
            .filter(|index| self.tensors[*index].array().index() < arrays.len())
            .map(|index| self.values(index, arrays).to_vec())
            .collect()
    }

    /// The values of the tensor at `index` of [`Self::state`].
    ///
    /// # Panics
    /// When its array is not there, or shorter than [`Self::len_of`] says.
    pub fn values<'a>(&self, index: usize, arrays: &'a [Vec<f32>]) -> &'a [f32] {
        let spec = &self.tensors[index];
        &arrays[spec.array().index()][self.offsets[index]..][..spec.len()]
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

/// Lays the tensors that `chosen` picks one after another, from `start`; returns the end.
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

/// The tensor of `slot` for `weight`.
fn slot_of(weight: &TensorSpec, slot: Slot) -> TensorSpec {
    TensorSpec {
        name: slot_name(slot.name, &weight.name),
        dims: weight.dims.clone(),
        init: Init::Zeros,
        role: Role::Slot(slot),
    }
}

/// The name of the tensor that an optimiser keeps for `weight` in its slot `slot`: for example
/// `momentum/dense/kernel`.
pub fn slot_name(slot: &str, weight: &str) -> String {
    format!("{slot}/{weight}")
}
