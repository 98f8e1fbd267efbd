//! The unit that residual networks are made of. How one computes is in `v1.rs` and `v2.rs`.

use crate::network::block::{Block, Convolution};
use crate::network::version::{Common, Version};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::widen::Widen;
use crate::table::TensorSpec;
#[cfg(feature = "trace")]
use {
    crate::collective::Replicas,
    crate::error::Result,
    crate::network::{v1, v2},
    crate::tensors::Tensors,
    xla::XlaOp,
};

/// Layers one after another, and most often a shortcut beside them.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    pub version: Version,
    /// At least one.
    pub layers: Vec<Layer>,
    pub shortcut: Shortcut,
    /// Behind the shortcut's convolution, in version 1.
    pub shortcut_bn: Option<BatchNorm>,
    /// Whether max pooling over 2x2 pixels comes last, in version 2.
    pub pools: bool,
}

/// What is added to the result of a unit's layers.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// The unit's input.
    Identity,
    /// A 1x1 convolution where the shape changes: of the unit's input in version 1, of the first layer's activation, which
    /// both branches share, in version 2.
    Projection(Conv),
    /// The unit's input with fewer pixels and more channels, without weights: where the shape changes.
    Zeros(Widen),
    /// Nothing.
    None,
}

impl Shortcut {
    pub fn projection(&self) -> Option<&Conv> {
        match self {
            Self::Projection(conv) => Some(conv),
            Self::Identity | Self::Zeros(_) | Self::None => None,
        }
    }
}

/// A convolution with the batch norm behind it in version 1, and before it in version 2.
#[derive(Clone, Debug)]
pub struct Layer {
    pub bn: BatchNorm,
    pub conv: Conv,
}

impl Layer {
    fn new(path: &str, number: usize, shape: Convolution, common: Common) -> Self {
        let channels = match common.version {
            Version::V1 => shape.outputs,
            Version::V2 => shape.inputs,
        };
        Self {
            bn: common.batch_norm(&format!("{path}/bn{number}"), channels),
            conv: common.conv(&format!("{path}/conv{number}"), shape),
        }
    }

    /// In the order in which data meets them.
    fn tensors(&self, version: Version) -> Vec<TensorSpec> {
        let (bn, conv) = (self.bn.tensors(), self.conv.tensors());
        match version {
            Version::V1 => [conv, bn].concat(),
            Version::V2 => [bn, conv].concat(),
        }
    }
}

impl Unit {
    /// A unit of `block` from `inputs` to `outputs` channels, named `name`.
    pub(crate) fn new(
        name: &str,
        block: Block,
        (inputs, outputs): (usize, usize),
        stride: usize,
        common: Common,
    ) -> Self {
        let convolutions = block.convolutions(common.version, inputs, outputs, stride);
        let layers = convolutions.into_iter().enumerate();
        let projection = Convolution {
            side: 1,
            stride,
            inputs,
            outputs,
        };
        let shortcut = match inputs != outputs || stride != 1 {
            true => Shortcut::Projection(common.conv(&format!("{name}/shortcut"), projection)),
            false => Shortcut::Identity,
        };
        let is_normed = common.version == Version::V1 && shortcut.projection().is_some();
        Self {
            name: name.to_owned(),
            version: common.version,
            layers: layers
                .map(|(index, shape)| Layer::new(name, index + 1, shape, common))
                .collect(),
            shortcut,
            shortcut_bn: is_normed.then(|| common.batch_norm(&format!("{name}/bn_skip"), outputs)),
            pools: false,
        }
    }

    /// [`Self::new`] with a shortcut that has no weights; `outputs` are no fewer than `inputs`.
    pub(crate) fn of_zeros(
        name: &str,
        block: Block,
        (inputs, outputs): (usize, usize),
        stride: usize,
        common: Common,
    ) -> Self {
        let unit = Self::new(name, block, (inputs, outputs), stride, common);
        let shortcut = match unit.shortcut {
            Shortcut::Projection(_) => Shortcut::Zeros(Widen {
                stride,
                inputs,
                outputs,
            }),
            other => other,
        };
        Self {
            shortcut,
            shortcut_bn: None,
            ..unit
        }
    }

    /// A 3x3 convolution from `inputs` to `outputs` channels and max pooling, named `name`.
    pub(crate) fn pooling(name: &str, (inputs, outputs): (usize, usize), common: Common) -> Self {
        Self {
            shortcut: Shortcut::None,
            shortcut_bn: None,
            pools: true,
            ..Self::new(name, Block::Single, (inputs, outputs), 1, common)
        }
    }

    /// Input channels.
    pub fn inputs(&self) -> usize {
        self.layers[0].conv.inputs
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.split().0.conv.outputs
    }

    pub(crate) fn tensors(&self) -> Vec<TensorSpec> {
        let layers = self.layers.iter();
        let mut tensors: Vec<_> = layers
            .flat_map(|layer| layer.tensors(self.version))
            .collect();
        tensors.extend(
            self.shortcut
                .projection()
                .into_iter()
                .flat_map(Conv::tensors),
        );
        tensors.extend(self.shortcut_bn.iter().flat_map(BatchNorm::tensors));
        tensors
    }

    /// The last layer, and those before it.
    pub(crate) fn split(&self) -> (&Layer, &[Layer]) {
        let split = self.layers.split_last();
        // `Block::convolutions` gives at least one.
        split.expect("a unit has a layer")
    }

    /// Dimensions of each layer's input, for a unit's input of dimensions `x_dims`.
    pub(crate) fn input_dims(&self, x_dims: [usize; 4]) -> Vec<[usize; 4]> {
        let mut dims = vec![x_dims];
        for layer in self.split().1 {
            dims.push(output_dims(&layer.conv, dims[dims.len() - 1]));
        }
        dims
    }

    /// Dimensions of what a loop keeps of the unit, for an input of dimensions `x_dims`: the inputs of its layers, and in
    /// version 1 the last convolution's output.
    pub(crate) fn kept_dims(&self, x_dims: [usize; 4]) -> Vec<[usize; 4]> {
        let mut dims = self.input_dims(x_dims);
        if self.version == Version::V1 {
            dims.push(output_dims(&self.split().0.conv, dims[dims.len() - 1]));
        }
        dims
    }
}

fn output_dims(conv: &Conv, [n, h, w, _]: [usize; 4]) -> [usize; 4] {
    [n, conv.output_side(h), conv.output_side(w), conv.outputs]
}

/// What a unit's backward pass needs from its forward pass.
#[cfg(feature = "trace")]
pub(crate) enum UnitSaved {
    V1(v1::Saved),
    V2(v2::Saved),
}

#[cfg(feature = "trace")]
impl UnitSaved {
    /// What a loop keeps of the unit, of [`Unit::kept_dims`].
    pub fn kept(&self) -> Vec<&XlaOp> {
        match self {
            Self::V1(saved) => saved.kept(),
            Self::V2(saved) => saved.kept(),
        }
    }
}

#[cfg(feature = "trace")]
impl Unit {
    /// The unit in training mode, `[N, H, W, C]` to the dimensions that its stride and its outputs make of that. The
    /// batch's statistics go into `batch`.
    pub(crate) fn forward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitSaved)> {
        match self.version {
            Version::V1 => {
                let (y, saved) = v1::forward(self, params, x, replicas, batch)?;
                Ok((y, UnitSaved::V1(saved)))
            }
            Version::V2 => {
                let (y, saved) = v2::forward(self, params, x, replicas, batch)?;
                Ok((y, UnitSaved::V2(saved)))
            }
        }
    }

    /// What [`Self::forward`] saved, from what a loop `kept` and the batch's statistics: of a unit that does not pool and
    /// whose shortcut is its input.
    pub(crate) fn saved(
        &self,
        params: &Tensors,
        kept: &[XlaOp],
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<UnitSaved> {
        Ok(match self.version {
            Version::V1 => UnitSaved::V1(v1::saved(self, params, kept, replicas, batch)?),
            Version::V2 => UnitSaved::V2(v2::saved(self, params, kept, replicas, batch)?),
        })
    }

    /// The chain rule through [`Self::forward`], from `dy` to dx.
    pub(crate) fn backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        match saved {
            UnitSaved::V1(saved) => v1::backward(self, params, saved, dy, replicas, gradients),
            UnitSaved::V2(saved) => v2::backward(self, params, saved, dy, replicas, gradients),
        }
    }

    /// [`Self::forward`] with moving statistics.
    pub(crate) fn infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        match self.version {
            Version::V1 => v1::infer(self, params, x),
            Version::V2 => v2::infer(self, params, x),
        }
    }
}
