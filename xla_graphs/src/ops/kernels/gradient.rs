//! Gradients: what one kernel hands to the next on the way back.

use kernel_contract::plan;
use xla::XlaOp;

use crate::arrays::to_i64;
use crate::collective::Replicas;
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::kernels::call::{Operands, element, part};
use crate::ops::kernels::features::Features;
use crate::table::Role;
use crate::tensors::{Place, Tensors};

/// The gradient of a layer's result.
pub enum Gradient {
    /// `[N, H, W, C]`.
    Plain(XlaOp),
    /// Behind pooling, with the pixels that it chose: `[N, H, W, C]` each.
    Pooled { dy: XlaOp, chosen: Place },
    /// Not yet taken through the batch norm of the next layer.
    BehindNorm(Box<BehindNorm>),
}

/// The gradient of the result of the batch norm `bn`, before its ReLU.
pub struct BehindNorm {
    bn: BatchNorm,
    /// What was normalised.
    x: Features,
    /// Begins with the gradient's values.
    dz: XlaOp,
    /// Sums over the batch: dgamma, then dbeta.
    sums: Place,
    /// Values that the sums run over.
    count: usize,
}

impl Gradient {
    /// Describes the gradient of a layer's result, which fills `len` places, to a kernel.
    pub(super) fn describe(
        &self,
        params: &Tensors,
        len: usize,
        operands: &mut Operands,
    ) -> Result<plan::OutputGradient> {
        Ok(match self {
            Self::Plain(dy) => {
                let dy = operands.add("dy", &Place::new(dy, 0), len)?;
                plan::OutputGradient::Plain(dy)
            }
            Self::Pooled { dy, chosen } => plan::OutputGradient::Pooled {
                dy: operands.add("dy", &Place::new(dy, 0), len)?,
                chosen: operands.add("what pooling chose", chosen, len)?,
            },
            Self::BehindNorm(behind) => {
                plan::OutputGradient::BehindNorm(behind.describe(params, operands)?)
            }
        })
    }
}

impl BehindNorm {
    /// The gradient of what `bn` made of `x`, from an array of its values, followed by dgamma
    /// and dbeta over the images of `x`.
    pub fn new(bn: &BatchNorm, x: &Features, dz: &XlaOp) -> Self {
        Self {
            bn: bn.clone(),
            x: x.clone(),
            dz: dz.clone(),
            sums: Place::new(dz, x.places()),
            count: x.pixels(),
        }
    }

    /// The same with the sums over all `replicas`. This replica's own go into `gradients`.
    pub(super) fn over(mut self, replicas: Replicas, gradients: &mut Tensors) -> Result<Self> {
        let own = part(&self.sums, 2 * self.x.dims[3])?;
        if replicas.0 > 1 {
            self.sums = Place::new(&replicas.sum(&own)?, 0);
            self.count *= replicas.0;
        }
        self.record(own, gradients)?;
        Ok(self)
    }

    /// dx + skip: the gradient of the batch norm's input, plus what reaches it by the skip, `[N, H, W, C]`.
    pub fn through_norm(&self, params: &Tensors, skip: &XlaOp) -> Result<XlaOp> {
        self.input_gradient(params, skip, false)
    }

    /// dx of this gradient and of `other`, which belongs to the same batch norm. `gradients` gets
    /// the sum of both for gamma and beta.
    pub fn join(
        &self,
        params: &Tensors,
        other: &Self,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let own = |behind: &Self| {
            let sums = Place::new(&behind.dz, behind.x.places());
            part(&sums, 2 * behind.x.dims[3])
        };
        let own = (own(self)? + own(other)?)?;
        let joined = Self {
            bn: self.bn.clone(),
            x: self.x.clone(),
            dz: self.dz.clone(),
            sums: Place::new(&replicas.sum(&own)?, 0),
            count: self.count,
        };
        joined.record(own, gradients)?;
        joined.input_gradient(params, &other.dz, true)
    }

    /// Puts this replica's own dgamma and dbeta into `gradients`, as a block.
    fn record(&self, own: XlaOp, gradients: &mut Tensors) -> Result<()> {
        let mut weights = self.bn.tensors();
        weights.retain(|spec| matches!(spec.role, Role::Weight { .. }));
        gradients.insert_block(&weights, own)
    }

    fn input_gradient(&self, params: &Tensors, added: &XlaOp, joined: bool) -> Result<XlaOp> {
        let mut operands = Operands::new(&self.bn.name);
        let plan = plan::NormBackward {
            pixels: self.x.pixels(),
            channels: self.x.dims[3],
            format: self.x.format,
            behind: self.describe(params, &mut operands)?,
            joined,
            added: operands.add("what is added", &Place::new(added, 0), self.x.places())?,
        };
        let ty = element(self.x.format);
        let dx = operands.call(added.builder(), &plan, ty, &[plan.values()])?;
        Ok(dx.reshape(&to_i64(&self.x.dims))?)
    }

    /// Describes this gradient to a kernel.
    fn describe(&self, params: &Tensors, operands: &mut Operands) -> Result<plan::BehindNorm> {
        let (channels, len) = (self.x.dims[3], self.x.places());
        let dbeta = Place::new(&self.sums.array, self.sums.offset + channels);
        Ok(plan::BehindNorm {
            norm: self.x.statistics.norm(params, &self.bn, operands)?,
            dgamma: operands.add("dgamma", &self.sums, channels)?,
            dbeta: operands.add("dbeta", &dbeta, channels)?,
            count: self.count,
            dz: operands.add("dz", &Place::new(&self.dz, 0), len)?,
            x: operands.add("x", &self.x.values, len)?,
        })
    }
}
