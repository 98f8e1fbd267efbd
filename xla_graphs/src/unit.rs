//! The unit that residual networks are made of, composed of the layers in [`crate::ops`].

use xla::XlaOp;

use crate::Result;
use crate::collective::Replicas;
use crate::layout::TensorSpec;
use crate::ops::batch_norm::{self, BatchNorm};
use crate::ops::conv::Conv;
use crate::ops::{Lowering, relu};
use crate::tensors::Tensors;

const BOTTLENECK: usize = 4;

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
pub struct UnitSaved {
    bn1: batch_norm::Saved,
    a1: XlaOp,
    bn2: batch_norm::Saved,
    a2: XlaOp,
    bn3: batch_norm::Saved,
    a3: XlaOp,
}

impl UnitSaved {
    /// What the first and the second convolution gave.
    pub(crate) fn convolved(&self) -> [&XlaOp; 2] {
        [&self.bn2.x, &self.bn3.x]
    }
}

impl Unit {
    pub(crate) fn new(
        name: &str,
        inputs: usize,
        outputs: usize,
        stride: usize,
        lowering: Lowering,
    ) -> Self {
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

    pub(crate) fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.bn1.tensors();
        tensors.extend(self.conv1.tensors());
        tensors.extend(self.bn2.tensors());
        tensors.extend(self.conv2.tensors());
        tensors.extend(self.bn3.tensors());
        tensors.extend(self.conv3.tensors());
        tensors.extend(self.shortcut.iter().flat_map(Conv::tensors));
        tensors
    }

    /// Dimensions of what the first two convolutions give, for an input of dimensions `x_dims`.
    pub(crate) fn inner_dims(&self, [n, h, w, _]: [usize; 4]) -> [usize; 4] {
        let side = |side| self.conv1.output_side(side);
        [n, side(h), side(w), self.conv1.outputs]
    }

    /// y = conv3(a3) + shortcut, aᵢ = relu(bnᵢ(·)): `[N, H, W, in]` to `[N, H/s, W/s, out]`.
    pub(crate) fn forward(
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

    /// What [`Self::forward`] saved, from the inputs of the three batch norms and from the batch's
    /// statistics.
    pub(crate) fn saved(
        &self,
        params: &Tensors,
        [x, h1, h2]: [XlaOp; 3],
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<UnitSaved> {
        let activate = |bn: &BatchNorm, x: &XlaOp| -> Result<(XlaOp, batch_norm::Saved)> {
            let (y, saved) = bn.normalise(params, x, replicas, batch)?;
            Ok((relu::forward(&y)?, saved))
        };
        let (a1, bn1) = activate(&self.bn1, &x)?;
        let (a2, bn2) = activate(&self.bn2, &h1)?;
        let (a3, bn3) = activate(&self.bn3, &h2)?;
        Ok(UnitSaved {
            bn1,
            a1,
            bn2,
            a2,
            bn3,
            a3,
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
    pub(crate) fn infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
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

pub(crate) fn conv(
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

pub(crate) fn batch_norm(name: &str, channels: usize, lowering: Lowering) -> BatchNorm {
    BatchNorm {
        name: name.to_owned(),
        channels,
        lowering,
    }
}
