//! The plans of a layer: forward and backward.

use super::fields::{BehindNorm, Norm, Start};
use crate::codec::Plan;
use crate::error::PlanError;
use crate::kernel::Kernel;
use crate::layer::Layer;
use crate::numbers::{Reader, Writer};

/// y = conv(relu(norm(x))) + skip.
///
/// The result is y `[N, h, w, O]`, then the mean and the variance of its channels, `[O]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerForward {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// `[N, H, W, C]`.
    pub x: Start,
    /// `[N, h, w, O]`; of a 1x1 convolution alone.
    pub skip: Option<Start>,
}

impl LayerForward {
    /// Where the mean begins in the result, followed by the variance.
    pub fn moments_at(&self) -> usize {
        self.layer.format.places(self.layer.output_values())
    }

    /// Places of the result.
    pub fn result_len(&self) -> usize {
        self.moments_at() + 2 * self.layer.outputs
    }
}

impl Plan for LayerForward {
    const KERNEL: Kernel = Kernel::LayerForward;

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()?;
        match self.skip {
            Some(_) if self.layer.side != 1 => Err(PlanError::Value {
                what: "the skip",
                expected: "one beside a 1x1 convolution",
                got: format!("one beside a {0}x{0} convolution", self.layer.side),
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
        self.layer.check()
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
        }
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            x: Start::read(numbers)?,
            dy: match numbers.yes_or_no("whether the gradient is behind a batch norm")? {
                true => OutputGradient::BehindNorm(BehindNorm::read(numbers)?),
                false => OutputGradient::Plain(Start::read(numbers)?),
            },
        })
    }
}
