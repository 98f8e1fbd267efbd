//! A batch norm and a ReLU behind it.

use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::ops::batch_norm::{self, BatchNorm, InputGradient};
use crate::ops::relu;
use crate::tensors::Tensors;

/// relu(bn(x)), with what its backward pass needs.
pub(crate) struct Activation {
    pub bn: batch_norm::Saved,
    /// After the ReLU.
    pub y: XlaOp,
}

impl Activation {
    /// The batch's statistics go into `batch`.
    pub fn forward(
        bn: &BatchNorm,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<Self> {
        let (y, saved) = bn.forward(params, x, replicas, batch)?;
        Ok(Self {
            bn: saved,
            y: relu::forward(&y)?,
        })
    }

    /// [`Self::forward`] once the batch's statistics are in `batch`.
    pub fn again(
        bn: &BatchNorm,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<Self> {
        let (y, saved) = bn.normalise(params, x, replicas, batch)?;
        Ok(Self {
            bn: saved,
            y: relu::forward(&y)?,
        })
    }

    /// dx, from the gradient `dy` of [`Self::y`]; those of the weights of `bn` go into `gradients`.
    pub fn backward(
        &self,
        bn: &BatchNorm,
        params: &Tensors,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        self.input_gradient(bn, params, dy, replicas, gradients)?
            .dx()
    }

    /// [`Self::backward`], with what dx is made of as its result.
    pub fn input_gradient(
        &self,
        bn: &BatchNorm,
        params: &Tensors,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<InputGradient> {
        let dz = relu::backward(&self.y, dy)?;
        bn.input_gradient(params, &self.bn, &dz, replicas, gradients)
    }
}

/// relu(bn(x)) with moving statistics.
pub(crate) fn infer(bn: &BatchNorm, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
    relu::forward(&bn.infer(params, x)?)
}
