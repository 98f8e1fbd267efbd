//! Pre-activation residual networks with bottleneck units (He et al. 2016, "Identity Mappings in
//! Deep Residual Networks"), as the Keras tutorial builds them for 32x32 images.

use xla::{PrimitiveType, XlaOp};

use crate::collective::Replicas;
use crate::fused;
use crate::layout::TensorSpec;
use crate::ops::batch_norm::{self, BatchNorm};
use crate::ops::conv::Conv;
use crate::ops::dense::Dense;
use crate::ops::kernels::Features;
use crate::ops::{Lowering, cast, pool, relu};
use crate::tensors::Tensors;
use crate::{GraphError, Result};

/// Colour channels of an image.
pub const IMAGE_CHANNELS: usize = 3;
/// Filters of the 3x3 stem.
const STEM_FILTERS: usize = 16;
/// Output filters of the units of each stage; a unit's inner width is a quarter of it.
const STAGE_FILTERS: [usize; 3] = [64, 128, 256];
const BOTTLENECK: usize = 4;

/// A network: stem, three stages of equal units, batch norm, pooling and classifier.
#[derive(Clone, Debug)]
pub struct ResNet {
    pub depth: usize,
    pub stem: Conv,
    pub units: Vec<Unit>,
    pub bn_out: BatchNorm,
    pub dense: Dense,
    lowering: Lowering,
}

/// The n of `depth` = 9n + 2.
///
/// # Errors
/// [`GraphError::Depth`] when there is no such n above 0.
pub fn units_per_stage(depth: usize) -> Result<usize> {
    if depth < 11 || !(depth - 2).is_multiple_of(9) {
        return Err(GraphError::Depth { got: depth });
    }
    Ok((depth - 2) / 9)
}

/// What the backward pass needs from the forward pass of the whole network.
pub struct Saved {
    images: XlaOp,
    units: UnitsSaved,
    bn_out: batch_norm::Saved,
    /// After the last ReLU, `[N, h, w, C]`.
    features: XlaOp,
    /// After pooling, `[N, C]`.
    pooled: XlaOp,
}

enum UnitsSaved {
    Composed(Vec<UnitSaved>),
    Fused(Vec<fused::UnitSaved>),
}

impl ResNet {
    /// The network with `depth` = 9n + 2 layers, n units a stage, for `classes` classes.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is no such n.
    pub fn new(depth: usize, classes: usize, lowering: Lowering) -> Result<Self> {
        let units_per_stage = units_per_stage(depth)?;
        let mut units = Vec::with_capacity(3 * units_per_stage);
        let mut inputs = STEM_FILTERS;
        for (stage, &outputs) in STAGE_FILTERS.iter().enumerate() {
            for unit in 0..units_per_stage {
                let name = format!("stage{}/unit{:02}", stage + 1, unit + 1);
                let stride = if stage > 0 && unit == 0 { 2 } else { 1 };
                units.push(Unit::new(&name, inputs, outputs, stride, lowering));
                inputs = outputs;
            }
        }
        Ok(Self {
            depth,
            stem: conv("conv_in", 3, 1, (IMAGE_CHANNELS, STEM_FILTERS), lowering),
            units,
            bn_out: batch_norm("bn_out", inputs, lowering),
            dense: Dense {
                name: "dense".to_owned(),
                inputs,
                outputs: classes,
            },
            lowering,
        })
    }

    /// All weights and moving statistics, in the order in which data meets them.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.stem.tensors();
        tensors.extend(self.units.iter().flat_map(Unit::tensors));
        tensors.extend(self.bn_out.tensors());
        tensors.extend(self.dense.tensors());
        tensors
    }

    /// Logits `[N, classes]` (f32) of normalised `images` `[N, H, W, 3]` in training mode. The precision
    /// of `images` is the precision of all activations. The batch's statistics go into `batch`, under
    /// the names of the moving ones.
    pub fn forward(
        &self,
        params: &Tensors,
        images: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Saved)> {
        let x = self.stem.forward(params, images)?;
        let (x, units) = self.forward_units(params, x, replicas, batch)?;
        let (y, bn_out) = self.bn_out.forward(params, &x, replicas, batch)?;
        let features = relu::forward(&y)?;
        let pooled = pool::forward(&features)?;
        let logits = self.dense.forward(params, &pooled)?;
        let saved = Saved {
            images: images.clone(),
            units,
            bn_out,
            features,
            pooled,
        };
        Ok((logits, saved))
    }

    fn forward_units(
        &self,
        params: &Tensors,
        mut x: XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitsSaved)> {
        if self.lowering == Lowering::Kernels {
            let (mean, variance) = self.units[0].bn1.statistics(params, &x, replicas)?;
            let mut x = Features::new(&x, &mean, &variance)?;
            let mut units = Vec::with_capacity(self.units.len());
            for unit in &self.units {
                let saved;
                (x, saved) = unit.fused_forward(params, &x, replicas, batch)?;
                units.push(saved);
            }
            return Ok((x.images()?, UnitsSaved::Fused(units)));
        }
        let mut units = Vec::with_capacity(self.units.len());
        for unit in &self.units {
            let saved;
            (x, saved) = unit.forward(params, &x, replicas, batch)?;
            units.push(saved);
        }
        Ok((x, UnitsSaved::Composed(units)))
    }

    /// The gradient of every weight, given `dlogits` `[N, classes]`.
    pub fn backward(
        &self,
        params: &Tensors,
        saved: &Saved,
        dlogits: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<()> {
        let dpooled = self
            .dense
            .backward(params, &saved.pooled, dlogits, gradients)?;
        let precision = saved.features.primitive_type()?;
        let dfeatures = pool::backward(&saved.features.dims()?, &dpooled)?;
        let dy = relu::backward(&saved.features, &cast(&dfeatures, precision)?)?;
        let mut dx = self
            .bn_out
            .backward(params, &saved.bn_out, &dy, replicas, gradients)?;
        match &saved.units {
            UnitsSaved::Composed(units) => {
                for (unit, saved) in self.units.iter().zip(units).rev() {
                    dx = unit.backward(params, saved, &dx, replicas, gradients)?;
                }
            }
            UnitsSaved::Fused(units) => {
                for (unit, saved) in self.units.iter().zip(units).rev() {
                    dx = unit.fused_backward(params, saved, &dx, replicas, gradients)?;
                }
            }
        }
        self.stem.backward_kernel(&saved.images, &dx, gradients)
    }

    /// Logits `[N, classes]` of normalised `images` `[N, H, W, 3]`, with moving statistics: inference.
    pub fn infer(&self, params: &Tensors, images: &XlaOp) -> Result<XlaOp> {
        let x = self.stem.forward(params, images)?;
        let x = self.infer_units(params, x)?;
        let features = relu::forward(&self.bn_out.infer(params, &x)?)?;
        let features = cast(&features, PrimitiveType::F32)?;
        self.dense.forward(params, &pool::forward(&features)?)
    }

    fn infer_units(&self, params: &Tensors, mut x: XlaOp) -> Result<XlaOp> {
        if self.lowering == Lowering::Kernels {
            let bn = &self.units[0].bn1;
            let mut x = Features::inferring(params, &x, bn)?;
            for unit in &self.units {
                x = unit.fused_infer(params, &x)?;
            }
            return x.images();
        }
        for unit in &self.units {
            x = unit.infer(params, &x)?;
        }
        Ok(x)
    }
}

/// BN-ReLU-conv three times (1x1 with stride, 3x3, 1x1) beside a shortcut.
///
/// Where the shape changes, the first unit of a stage, the shortcut is a 1x1 convolution of the
/// first activation, which both branches share; elsewhere it is the input itself.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    pub bn1: BatchNorm,
    pub conv1: Conv,
    pub bn2: BatchNorm,
    pub conv2: Conv,
    pub bn3: BatchNorm,
    pub conv3: Conv,
    pub shortcut: Option<Conv>,
}

/// What a unit's backward pass needs from its forward pass.
struct UnitSaved {
    bn1: batch_norm::Saved,
    a1: XlaOp,
    bn2: batch_norm::Saved,
    a2: XlaOp,
    bn3: batch_norm::Saved,
    a3: XlaOp,
}

impl Unit {
    fn new(name: &str, inputs: usize, outputs: usize, stride: usize, lowering: Lowering) -> Self {
        let inner = outputs / BOTTLENECK;
        let path = |layer: &str| format!("{name}/{layer}");
        Self {
            name: name.to_owned(),
            bn1: batch_norm(&path("bn1"), inputs, lowering),
            conv1: conv(&path("conv1"), 1, stride, (inputs, inner), lowering),
            bn2: batch_norm(&path("bn2"), inner, lowering),
            conv2: conv(&path("conv2"), 3, 1, (inner, inner), lowering),
            bn3: batch_norm(&path("bn3"), inner, lowering),
            conv3: conv(&path("conv3"), 1, 1, (inner, outputs), lowering),
            shortcut: (inputs != outputs)
                .then(|| conv(&path("shortcut"), 1, stride, (inputs, outputs), lowering)),
        }
    }

    fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.bn1.tensors();
        tensors.extend(self.conv1.tensors());
        tensors.extend(self.bn2.tensors());
        tensors.extend(self.conv2.tensors());
        tensors.extend(self.bn3.tensors());
        tensors.extend(self.conv3.tensors());
        tensors.extend(self.shortcut.iter().flat_map(Conv::tensors));
        tensors
    }

    /// y = conv3(a3) + shortcut, aᵢ = relu(bnᵢ(·)): `[N, H, W, in]` to `[N, H/s, W/s, out]`.
    fn forward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitSaved)> {
        let mut activate = |bn: &BatchNorm, x: &XlaOp| -> Result<(XlaOp, batch_norm::Saved)> {
            let (y, saved) = bn.forward(params, x, replicas, batch)?;
            Ok((relu::forward(&y)?, saved))
        };
        let (a1, bn1) = activate(&self.bn1, x)?;
        let (a2, bn2) = activate(&self.bn2, &self.conv1.forward(params, &a1)?)?;
        let (a3, bn3) = activate(&self.bn3, &self.conv2.forward(params, &a2)?)?;
        let shortcut = match &self.shortcut {
            Some(projection) => projection.forward(params, &a1)?,
            None => x.clone(),
        };
        let y = (self.conv3.forward(params, &a3)? + shortcut)?;
        let saved = UnitSaved {
            bn1,
            a1,
            bn2,
            a2,
            bn3,
            a3,
        };
        Ok((y, saved))
    }

    /// The chain rule through [`Self::forward`], from `dy` to dx; both branches' gradients add up
    /// where they met: at the first activation, or at the input for an identity shortcut.
    fn backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let da3 = self.conv3.backward(params, &saved.a3, dy, gradients)?;
        let dy3 = relu::backward(&saved.a3, &da3)?;
        let dh2 = self
            .bn3
            .backward(params, &saved.bn3, &dy3, replicas, gradients)?;
        let da2 = self.conv2.backward(params, &saved.a2, &dh2, gradients)?;
        let dy2 = relu::backward(&saved.a2, &da2)?;
        let dh1 = self
            .bn2
            .backward(params, &saved.bn2, &dy2, replicas, gradients)?;
        let mut da1 = self.conv1.backward(params, &saved.a1, &dh1, gradients)?;
        if let Some(projection) = &self.shortcut {
            da1 = (da1 + projection.backward(params, &saved.a1, dy, gradients)?)?;
        }
        let dy1 = relu::backward(&saved.a1, &da1)?;
        let dx = self
            .bn1
            .backward(params, &saved.bn1, &dy1, replicas, gradients)?;
        match self.shortcut {
            Some(_) => Ok(dx),
            None => Ok((dx + dy)?),
        }
    }

    /// [`Self::forward`] with moving statistics.
    fn infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let activate = |bn: &BatchNorm, x: &XlaOp| relu::forward(&bn.infer(params, x)?);
        let a1 = activate(&self.bn1, x)?;
        let a2 = activate(&self.bn2, &self.conv1.forward(params, &a1)?)?;
        let a3 = activate(&self.bn3, &self.conv2.forward(params, &a2)?)?;
        let shortcut = match &self.shortcut {
            Some(projection) => projection.forward(params, &a1)?,
            None => x.clone(),
        };
        Ok((self.conv3.forward(params, &a3)? + shortcut)?)
    }
}

fn conv(
    name: &str,
    side: usize,
    stride: usize,
    (inputs, outputs): (usize, usize),
    lowering: Lowering,
) -> Conv {
    Conv {
        name: name.to_owned(),
        side,
        stride,
        inputs,
        outputs,
        lowering,
    }
}

fn batch_norm(name: &str, channels: usize, lowering: Lowering) -> BatchNorm {
    BatchNorm {
        name: name.to_owned(),
        channels,
        lowering,
    }
}
