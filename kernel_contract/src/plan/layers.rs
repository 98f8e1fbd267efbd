//! The plans of a layer: forward and backward.

use super::fields::{BehindNorm, Norm, Start};
use crate::codec::Plan;
use crate::error::PlanError;
use crate::kernel::Kernel;
use crate::layer::Layer;
use crate::numbers::{Reader, Writer};

/// y = conv(relu(norm(x))) + skip, or pool(conv(relu(norm(x)))).
///
/// The result is y `[N, h, w, O]`, then the mean and the variance of its channels, `[O]` each. Behind pooling follows
/// which pixel of its square each value of y was, row by row from 0: `[N, h, w, O]`, stored as y is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerForward {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// `[N, H, W, C]`.
    pub x: Start,
    /// `[N, h, w, O]`; without pooling alone.
    pub skip: Option<Start>,
}

impl LayerForward {
    /// Where the mean begins in the result, followed by the variance.
    pub fn moments_at(&self) -> usize {
        self.layer.format.places(self.layer.result_values())
    }

    /// Where the pixels that pooling chose begin in the result.
    pub fn chosen_at(&self) -> usize {
        self.moments_at() + 2 * self.layer.outputs
    }

    /// Places of the result.
    pub fn result_len(&self) -> usize {
        match self.layer.pools {
            true => self.chosen_at() + self.moments_at(),
            false => self.chosen_at(),
        }
    }
}

impl Plan for LayerForward {
    const KERNEL: Kernel = Kernel::LayerForward;

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()?;
        match (self.layer.pools, self.skip) {
            (true, Some(_)) => Err(PlanError::Value {
                what: "the skip",
                expected: "none before pooling",
                got: "one".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.layer.write(out)?;
        self.norm.write(out)?;
        self.kernel.write(out)?;
        self.x.write(out)?;
        out.number(self.skip.is_some().into())?;
        self.skip.iter().try_for_each(|skip| skip.write(out))
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            x: Start::read(numbers)?,
            skip: match numbers.yes_or_no("whether there is a skip")? {
                true => Some(Start::read(numbers)?),
                false => None,
            },
        })
    }
}

/// The gradient of a layer's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputGradient {
    /// `[N, h, w, O]`.
    Plain(Start),
    /// Behind pooling, with the pixels that it chose: `[N, h, w, O]` each.
    Pooled { dy: Start, chosen: Start },
    /// Not yet taken through the batch norm of the next layer.
    BehindNorm(BehindNorm),
}

/// The gradients of [`LayerForward`]; the skip's is dy itself.
///
/// The result is dz, the gradient of the normalisation's result before the ReLU, `[N, H, W, C]`, then
/// dgamma and dbeta, `[C]` each, then the kernel's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBackward {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// `[N, H, W, C]`.
    pub x: Start,
    pub dy: OutputGradient,
}

impl LayerBackward {
    /// Where dgamma begins in the result, followed by dbeta.
    pub fn sums_at(&self) -> usize {
        self.layer.format.places(self.layer.input_values())
    }

    /// Where the kernel's gradient begins in the result.
    pub fn kernel_at(&self) -> usize {
        self.sums_at() + 2 * self.layer.inputs
    }

    /// Places of the result.
    pub fn result_len(&self) -> usize {
        self.kernel_at() + self.layer.kernel_len()
    }
}

impl Plan for LayerBackward {
    const KERNEL: Kernel = Kernel::LayerBackward;

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()?;
        let is_pooled = matches!(self.dy, OutputGradient::Pooled { .. });
        let (expected, got) = match (self.layer.pools, is_pooled) {
            (true, false) => ("one behind pooling", "one without"),
            (false, true) => ("one without pooling", "one behind it"),
            _ => return Ok(()),
        };
        Err(PlanError::Value {
            what: "the gradient",
            expected,
            got: got.to_owned(),
        })
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.layer.write(out)?;
        self.norm.write(out)?;
        self.kernel.write(out)?;
        self.x.write(out)?;
        match &self.dy {
            OutputGradient::Plain(dy) => {
                out.number(0)?;
                dy.write(out)
            }
            OutputGradient::BehindNorm(behind) => {
                out.number(1)?;
                behind.write(out)
            }
            OutputGradient::Pooled { dy, chosen } => {
                out.number(2)?;
                dy.write(out)?;
                chosen.write(out)
            }
        }
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            x: Start::read(numbers)?,
            dy: match numbers.number()? {
                0 => OutputGradient::Plain(Start::read(numbers)?),
                1 => OutputGradient::BehindNorm(BehindNorm::read(numbers)?),
                2 => OutputGradient::Pooled {
                    dy: Start::read(numbers)?,
                    chosen: Start::read(numbers)?,
                },
                other => {
                    return Err(PlanError::Value {
                        what: "the kind of gradient",
                        expected: "0, 1 or 2",
                        got: other.to_string(),
                    });
                }
            },
        })
    }
}
