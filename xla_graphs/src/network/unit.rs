//! The unit that residual networks are made of, composed of the layers in [`crate::ops`].

use crate::network::block::{Block, Convolution};
use crate::ops::Lowering;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::widen::Widen;
use crate::table::TensorSpec;
#[cfg(feature = "trace")]
use {
    crate::collective::Replicas,
    crate::error::Result,
    crate::ops::{batch_norm, max_pool, relu},
    crate::tensors::Tensors,
    xla::XlaOp,
};

/// Layers one after another, and most often a shortcut beside them.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    /// At least one.
    pub layers: Vec<Layer>,
    pub shortcut: Shortcut,
    /// Whether max pooling over 2x2 pixels comes last.
    pub pools: bool,
}

/// What is added to the result of a unit's layers.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// The unit's input.
    Identity,
    /// A 1x1 convolution of the first layer's activation, which both branches share: where the shape
    /// changes.
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

/// BN-ReLU-convolution.
#[derive(Clone, Debug)]
pub struct Layer {
    pub bn: BatchNorm,
    pub conv: Conv,
}

/// What a unit's backward pass needs from its forward pass.
#[cfg(feature = "trace")]
pub(crate) struct UnitSaved {
    pub layers: Vec<LayerSaved>,
    pub pool: Option<max_pool::Saved>,
}

/// What a layer's backward pass needs from its forward pass.
#[cfg(feature = "trace")]
pub(crate) struct LayerSaved {
    bn: batch_norm::Saved,
    /// After the ReLU.
    activation: XlaOp,
}

#[cfg(feature = "trace")]
impl LayerSaved {
    /// What the layer was given.
    pub fn input(&self) -> &XlaOp {
        &self.bn.x
    }
}

impl Layer {
    fn new(path: &str, number: usize, shape: Convolution, lowering: Lowering) -> Self {
        Self {
            bn: BatchNorm {
                name: format!("{path}/bn{number}"),
                channels: shape.inputs,
                lowering,
            },
            conv: conv(&format!("{path}/conv{number}"), shape, lowering),
        }
    }
}

#[cfg(feature = "trace")]
impl Layer {
    /// relu(bn(x)).
    fn activate(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<LayerSaved> {
        let (y, bn) = self.bn.forward(params, x, replicas, batch)?;
        let activation = relu::forward(&y)?;
        Ok(LayerSaved { bn, activation })
    }

    /// [`Self::activate`] once the batch's statistics are in `batch`.
    fn activate_again(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<LayerSaved> {
        let (y, bn) = self.bn.normalise(params, x, replicas, batch)?;
        let activation = relu::forward(&y)?;
        Ok(LayerSaved { bn, activation })
    }
}

impl Unit {
    /// A unit of `block` from `inputs` to `outputs` channels, named `name`.
    pub(crate) fn new(
        name: &str,
        block: Block,
        (inputs, outputs): (usize, usize),
        stride: usize,
        lowering: Lowering,
    ) -> Self {
        let convolutions = block.convolutions(inputs, outputs, stride);
        let layers = convolutions.into_iter().enumerate();
        let projection = Convolution {
            side: 1,
            stride,
            inputs,
            outputs,
        };
        Self {
            name: name.to_owned(),
            layers: layers
                .map(|(index, shape)| Layer::new(name, index + 1, shape, lowering))
                .collect(),
            shortcut: match inputs != outputs || stride != 1 {
                true => {
                    Shortcut::Projection(conv(&format!("{name}/shortcut"), projection, lowering))
                }
                false => Shortcut::Identity,
            },
            pools: false,
        }
    }

    /// [`Self::new`] with a shortcut that has no weights; `outputs` are no fewer than `inputs`.
    pub(crate) fn of_zeros(
        name: &str,
        block: Block,
        (inputs, outputs): (usize, usize),
        stride: usize,
        lowering: Lowering,
    ) -> Self {
        let unit = Self::new(name, block, (inputs, outputs), stride, lowering);
        let shortcut = match unit.shortcut {
            Shortcut::Projection(_) => Shortcut::Zeros(Widen {
                stride,
                inputs,
                outputs,
            }),
            other => other,
        };
        Self { shortcut, ..unit }
    }

    /// A 3x3 convolution from `inputs` to `outputs` channels and max pooling, named `name`.
    pub(crate) fn pooling(
        name: &str,
        (inputs, outputs): (usize, usize),
        lowering: Lowering,
    ) -> Self {
        Self {
            shortcut: Shortcut::None,
            pools: true,
            ..Self::new(name, Block::Single, (inputs, outputs), 1, lowering)
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
        let mut tensors = Vec::new();
        for layer in &self.layers {
            tensors.extend(layer.bn.tensors());
            tensors.extend(layer.conv.tensors());
        }
        tensors.extend(
            self.shortcut
                .projection()
                .into_iter()
                .flat_map(Conv::tensors),
        );
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
            let [n, h, w, _] = dims[dims.len() - 1];
            let side = |side| layer.conv.output_side(side);
            dims.push([n, side(h), side(w), layer.conv.outputs]);
        }
        dims
    }
}

#[cfg(feature = "trace")]
impl Unit {
    /// y = conv(a) + shortcut, where a is the last layer's activation, and its maxima if the unit
    /// [`pools`](Self::pools): `[N, H, W, in]` to `[N, H/s, W/s, out]`.
    pub(crate) fn forward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitSaved)> {
        let (last, inner) = self.split();
        let mut layers = Vec::new();
        let mut h = x.clone();
        for layer in inner {
            let kept = layer.activate(params, &h, replicas, batch)?;
            h = layer.conv.forward(params, &kept.activation)?;
            layers.push(kept);
        }
        layers.push(last.activate(params, &h, replicas, batch)?);
        let y = last.conv.forward(params, &layers[inner.len()].activation)?;
        let y = self.add_shortcut(params, x, &layers[0].activation, y)?;
        let (y, pool) = self.pool(y)?;
        Ok((y, UnitSaved { layers, pool }))
    }

    /// `y` and the shortcut of the unit's input `x`, whose first activation is `a`.
    fn add_shortcut(&self, params: &Tensors, x: &XlaOp, a: &XlaOp, y: XlaOp) -> Result<XlaOp> {
        Ok(match &self.shortcut {
            Shortcut::Projection(projection) => (y + projection.forward(params, a)?)?,
            Shortcut::Identity => (y + x)?,
            Shortcut::Zeros(widen) => (y + widen.forward(x)?)?,
            Shortcut::None => y,
        })
    }

    /// The maxima of `y` if the unit pools, else `y`.
    fn pool(&self, y: XlaOp) -> Result<(XlaOp, Option<max_pool::Saved>)> {
        if !self.pools {
            return Ok((y, None));
        }
        let (pooled, saved) = max_pool::forward(&y)?;
        Ok((pooled, Some(saved)))
    }

    /// What [`Self::forward`] saved, from the `inputs` of the layers and the batch's statistics: of a unit
    /// that does not pool.
    pub(crate) fn saved(
        &self,
        params: &Tensors,
        inputs: &[XlaOp],
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<UnitSaved> {
        let pairs = self.layers.iter().zip(inputs);
        let layers = pairs.map(|(layer, x)| layer.activate_again(params, x, replicas, batch));
        Ok(UnitSaved {
            layers: layers.collect::<Result<_>>()?,
            pool: None,
        })
    }

    /// The chain rule through [`Self::forward`], from `dy` to dx; both branches' gradients add up
    /// where they met: at the first activation, or at the input for an identity shortcut.
    pub(crate) fn backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let dy = &before_pool(&saved.pool, dy)?;
        let mut dx = dy.clone();
        for (index, (layer, saved)) in self.layers.iter().zip(&saved.layers).enumerate().rev() {
            let a = &saved.activation;
            let mut da = layer.conv.backward(params, a, &dx, gradients)?;
            if let (0, Shortcut::Projection(projection)) = (index, &self.shortcut) {
                da = (da + projection.backward(params, a, dy, gradients)?)?;
            }
            let dz = relu::backward(a, &da)?;
            dx = layer
                .bn
                .backward(params, &saved.bn, &dz, replicas, gradients)?;
        }
        match &self.shortcut {
            Shortcut::Identity => Ok((dx + dy)?),
            Shortcut::Zeros(widen) => {
                let skipped = widen.backward(&dx.dims()?, dy)?;
                Ok((dx + skipped)?)
            }
            Shortcut::Projection(_) | Shortcut::None => Ok(dx),
        }
    }

    /// [`Self::forward`] with moving statistics.
    pub(crate) fn infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let activate = |bn: &BatchNorm, x: &XlaOp| relu::forward(&bn.infer(params, x)?);
        let (last, inner) = self.split();
        let first_activation = activate(&self.layers[0].bn, x)?;
        let mut a = first_activation.clone();
        for (layer, next) in inner.iter().zip(&self.layers[1..]) {
            a = activate(&next.bn, &layer.conv.forward(params, &a)?)?;
        }
        let y = last.conv.forward(params, &a)?;
        let y = self.add_shortcut(params, x, &first_activation, y)?;
        Ok(self.pool(y)?.0)
    }
}

/// The gradient of what went into the pooling that saved `pool`, from `dy`, the gradient of its result;
/// without pooling, `dy` itself.
#[cfg(feature = "trace")]
fn before_pool(pool: &Option<max_pool::Saved>, dy: &XlaOp) -> Result<XlaOp> {
    match pool {
        Some(saved) => max_pool::backward(saved, dy),
        None => Ok(dy.clone()),
    }
}

pub(crate) fn conv(name: &str, shape: Convolution, lowering: Lowering) -> Conv {
    Conv {
        name: name.to_owned(),
        side: shape.side,
        stride: shape.stride,
        inputs: shape.inputs,
        outputs: shape.outputs,
        lowering,
    }
}
