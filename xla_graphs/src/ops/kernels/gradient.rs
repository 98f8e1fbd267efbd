//! Gradients: what one kernel hands to the next on the way back.

use kernel_contract::plan;
use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::kernels::call::Operands;
use crate::ops::kernels::features::Features;
use crate::table::Role;
use crate::tensors::{Place, Tensors};

/// The gradient of a layer's result.
pub enum Gradient {
    /// `[N, H, W, C]`.
    Plain(XlaOp),
    /// Behind pooling, with the pixels that it chose: `[N, H, W, C]` each.
    Pooled { dy: XlaOp, chosen: XlaOp },
    /// Not yet taken through the batch norm of the next layer.
    BehindNorm(Box<BehindNorm>),
    /// Not yet put together out of two branches.
    Junction(Junction),
}

/// Where the gradients of two branches meet: one goes through a batch norm, and the other is added.
pub struct Junction {
    behind: Box<BehindNorm>,
    /// `[N, H, W, C]`.
    added: XlaOp,
    /// Whether `added` belongs to the gradient of the batch norm's result, or else to its input's.
    joined: bool,
}

/// The gradient of the result of the batch norm `bn`, before its ReLU.
pub struct BehindNorm {
    bn: BatchNorm,
    /// What was normalised.
    x: Features,
    /// The gradient, `[N, H, W, C]`.
    dz: XlaOp,
    /// dgamma and then dbeta, `[2 · C]`: sums over this replica's images.
    own: XlaOp,
    /// The same over all images.
    sums: XlaOp,
    /// Values that the sums run over.
    count: usize,
}

impl Gradient {
    /// Describes the gradient of a layer's result, which has `len` values, to a kernel.
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
                chosen: operands.add("what pooling chose", &Place::new(chosen, 0), len)?,
            },
            Self::BehindNorm(behind) => {
                plan::OutputGradient::BehindNorm(behind.describe(params, operands)?)
            }
            Self::Junction(junction) => plan::OutputGradient::Junction {
                behind: junction.behind.describe(params, operands)?,
                joined: junction.joined,
                added: junction.describe_added(operands)?,
            },
        })
    }
}

impl Junction {
    /// Both branches' gradient, `[N, H, W, C]`.
    pub fn sum(&self, params: &Tensors) -> Result<XlaOp> {
        let behind = &self.behind;
        let mut operands = Operands::new(&behind.bn.name);
        let plan = plan::NormBackward {
            dims: behind.x.dims,
            format: behind.x.format,
            behind: behind.describe(params, &mut operands)?,
            joined: self.joined,
            added: self.describe_added(&mut operands)?,
        };
        // With a reshape on either side, XLA would copy it before and after.
        let mut results = operands.call(self.added.builder(), &plan)?;
        Ok(results.remove(0))
    }

    fn describe_added(&self, operands: &mut Operands) -> Result<plan::Start> {
        let len = self.behind.x.len();
        operands.add("what is added", &Place::new(&self.added, 0), len)
    }
}

impl BehindNorm {
    /// The gradient `dz` `[N, H, W, C]` of what `bn` made of `x`, with dgamma and then dbeta over the images of `x` in
    /// `sums`, `[2 · C]`.
    pub fn new(bn: &BatchNorm, x: &Features, dz: &XlaOp, sums: &XlaOp) -> Self {
        Self {
            bn: bn.clone(),
            x: x.clone(),
            dz: dz.clone(),
            own: sums.clone(),
            sums: sums.clone(),
            count: x.pixels(),
        }
    }

    /// The same with the sums over all `replicas`. This replica's own go into `gradients`.
    pub(super) fn over(mut self, replicas: Replicas, gradients: &mut Tensors) -> Result<Self> {
        if replicas.0 > 1 {
            self.sums = replicas.sum(&self.own)?;
            self.count *= replicas.0;
        }
        self.record(gradients)?;
        Ok(self)
    }

    /// dx + skip: the gradient of the batch norm's input, plus what reaches it by the skip, `[N, H, W, C]`.
    pub fn with_skip(self, skip: &XlaOp) -> Junction {
        Junction {
            behind: Box::new(self),
            added: skip.clone(),
            joined: false,
        }
    }

    /// dx of this gradient and of `other`, which belongs to the same batch norm. `gradients` gets
    /// the sum of both for gamma and beta.
    pub fn join(
        self,
        other: &Self,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<Junction> {
        let own = (&self.own + &other.own)?;
        let behind = Self {
            sums: replicas.sum(&own)?,
            own,
            ..self
        };
        behind.record(gradients)?;
        Ok(Junction {
            behind: Box::new(behind),
            added: other.dz.clone(),
            joined: true,
        })
    }

    /// Puts this replica's own dgamma and dbeta into `gradients`, as a block.
    fn record(&self, gradients: &mut Tensors) -> Result<()> {
        let mut weights = self.bn.tensors();
        weights.retain(|spec| matches!(spec.role, Role::Weight { .. }));
        gradients.insert_block(&weights, self.own.clone())
    }

    /// Describes this gradient to a kernel.
    fn describe(&self, params: &Tensors, operands: &mut Operands) -> Result<plan::BehindNorm> {
        let (channels, len) = (self.x.dims[3], self.x.len());
        let (dgamma, dbeta) = (Place::new(&self.sums, 0), Place::new(&self.sums, channels));
        Ok(plan::BehindNorm {
            norm: self.x.statistics.norm(params, &self.bn, operands)?,
            dgamma: operands.add("dgamma", &dgamma, channels)?,
            dbeta: operands.add("dbeta", &dbeta, channels)?,
            count: self.count,
            dz: operands.add("dz", &Place::new(&self.dz, 0), len)?,
            x: operands.add("x", &self.x.values, len)?,
        })
    }
}
