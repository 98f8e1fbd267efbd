//! The plans of a layer: forward and backward.

use super::fields::{BehindNorm, Norm, Row, Start};
use crate::array::Array;
use crate::codec::Plan;
use crate::error::PlanError;
use crate::kernel::Kernel;
use crate::layer::Layer;
use crate::numbers::{Reader, Writer};

/// y = conv(relu(norm(x))) + skip, or pool(conv(relu(norm(x)))).
///
/// The results are y `[N, h, w, O]`, and the mean and the variance of its channels, one after the other: `[2 · O]`.
/// With pooling there is a third: which pixel of its square each value of y was, row by row from 0, `[N, h, w, O]`, stored
/// as y is.
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
    /// The row that y becomes, where it is no array of its own: the array of rows is an operand, and with y in it the
    /// first result.
    pub row: Option<Row>,
}

impl Plan for LayerForward {
    const KERNEL: Kernel = Kernel::LayerForward;

    fn results(&self) -> Vec<Array> {
        let y = Array::of(self.layer.format, &self.layer.result_dims());
        let first = match &self.row {
            Some(row) => y.rows(row.rows),
            None => y.clone(),
        };
        let moments = Array::f32(&[2 * self.layer.outputs]);
        match self.layer.pools {
            true => vec![first, moments, y],
            false => vec![first, moments],
        }
    }

    fn in_place(&self) -> Option<usize> {
        self.row.map(|row| row.start.operand)
    }

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
        self.skip.iter().try_for_each(|skip| skip.write(out))?;
        out.number(self.row.is_some().into())?;
        self.row.iter().try_for_each(|row| row.write(out))
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
            row: match numbers.yes_or_no("whether the result is a row")? {
                true => Some(Row::read(numbers)?),
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
    /// Not yet put together out of two branches, as [`NormBackward`](super::NormBackward) does: behind a 1x1 convolution.
    Junction {
        behind: BehindNorm,
        joined: bool,
        /// All of an operand, in whose place the gradient comes.
        added: Start,
    },
}

/// The gradients of [`LayerForward`]; the skip's is dy itself.
///
/// The results are dz, the gradient of the normalisation's result before the ReLU, `[N, H, W, C]`; dgamma and dbeta, one
/// after the other, `[2 · C]`; and the kernel's gradient. Behind a junction dy `[N, h, w, O]` comes first.
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

impl Plan for LayerBackward {
    const KERNEL: Kernel = Kernel::LayerBackward;

    fn results(&self) -> Vec<Array> {
        let layer = &self.layer;
        let mut results = vec![
            Array::of(layer.format, &layer.input_dims()),
            Array::f32(&[2 * layer.inputs]),
            Array::f32(&[layer.side, layer.side, layer.inputs, layer.outputs]),
        ];
        if let OutputGradient::Junction { .. } = self.dy {
            results.insert(0, Array::of(layer.format, &layer.result_dims()));
        }
        results
    }

    fn in_place(&self) -> Option<usize> {
        match self.dy {
            OutputGradient::Junction { added, .. } => Some(added.operand),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()?;
        let is_pooled = matches!(self.dy, OutputGradient::Pooled { .. });
        let is_junction = matches!(self.dy, OutputGradient::Junction { .. });
        let (expected, got) = match (self.layer.pools, is_pooled) {
            (true, false) => ("one behind pooling", "one without"),
            (false, true) => ("one without pooling", "one behind it"),
            _ if is_junction && self.layer.side != 1 => {
                ("one put together, behind a 3x3 convolution", "a junction")
            }
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
            OutputGradient::Junction {
                behind,
                joined,
                added,
            } => {
                out.number(3)?;
                behind.write(out)?;
                out.number((*joined).into())?;
                added.write(out)
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
                3 => OutputGradient::Junction {
                    behind: BehindNorm::read(numbers)?,
                    joined: numbers.yes_or_no("whether two gradients are joined")?,
                    added: Start::read(numbers)?,
                },
                other => {
                    return Err(PlanError::Value {
                        what: "the kind of gradient",
                        expected: "0, 1, 2 or 3",
                        got: other.to_string(),
                    });
                }
            },
        })
    }
}
