//! The units of the network on the fused kernels of the CPU: see [`crate::ops::kernels`].

use xla::XlaOp;

use crate::Result;
use crate::collective::Replicas;
use crate::ops::kernels::{self, Features, Gradient};
use crate::resnet::Unit;
use crate::tensors::Tensors;

/// What a unit's backward pass needs from its forward pass.
pub struct UnitSaved {
    x: Features,
    h1: Features,
    h2: Features,
}

impl Unit {
    /// [`Unit::forward`] on the kernels. `batch` gets the batch statistics.
    pub(crate) fn fused_forward(
        &self,
        params: &Tensors,
        x: &Features,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(Features, UnitSaved)> {
        x.record(&self.bn1, batch)?;
        let h1 = kernels::forward(params, &self.bn1, &self.conv1, x, None, replicas)?;
        h1.record(&self.bn2, batch)?;
        let h2 = kernels::forward(params, &self.bn2, &self.conv2, &h1, None, replicas)?;
        h2.record(&self.bn3, batch)?;
        let skip = match &self.shortcut {
            Some(shortcut) => kernels::forward(params, &self.bn1, shortcut, x, None, replicas)?,
            None => x.clone(),
        };
        let y = kernels::forward(params, &self.bn3, &self.conv3, &h2, Some(&skip), replicas)?;
        let saved = UnitSaved {
            x: x.clone(),
            h1,
            h2,
        };
        Ok((y, saved))
    }

    /// [`Unit::backward`] on the kernels.
    pub(crate) fn fused_backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let mut back = |bn, conv, x, dy: &Gradient| {
            kernels::backward(params, bn, conv, x, dy, replicas, gradients)
        };
        let plain = Gradient::Plain(dy.clone());
        let dz3 = Gradient::BehindNorm(back(&self.bn3, &self.conv3, &saved.h2, &plain)?);
        let dz2 = Gradient::BehindNorm(back(&self.bn2, &self.conv2, &saved.h1, &dz3)?);
        let dz1 = back(&self.bn1, &self.conv1, &saved.x, &dz2)?;
        match &self.shortcut {
            Some(shortcut) => {
                let other = back(&self.bn1, shortcut, &saved.x, &plain)?;
                dz1.join(params, &other, replicas, gradients)
            }
            None => dz1.through_norm(params, dy),
        }
    }

    /// [`Unit::infer`] on the kernels.
    pub(crate) fn fused_infer(&self, params: &Tensors, x: &Features) -> Result<Features> {
        let layer = |bn, conv, x: &Features, skip| {
            let x = x.with_moving_statistics(params, bn)?;
            kernels::forward(params, bn, conv, &x, skip, Replicas(1))
        };
        let h1 = layer(&self.bn1, &self.conv1, x, None)?;
        let h2 = layer(&self.bn2, &self.conv2, &h1, None)?;
        match &self.shortcut {
            Some(shortcut) => {
                let skip = layer(&self.bn1, shortcut, x, None)?;
                layer(&self.bn3, &self.conv3, &h2, Some(&skip))
            }
            None => layer(&self.bn3, &self.conv3, &h2, Some(x)),
        }
    }
}
