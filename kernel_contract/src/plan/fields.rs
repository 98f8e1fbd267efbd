//! The fields that several plans share.

use crate::error::PlanError;
use crate::format::Format;
use crate::layer::Layer;
use crate::numbers::{Reader, Writer};

/// Where an array begins: at value `offset` of an operand, and `per_round` values further on for each
/// round of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The operand's number among the arrays.
    pub operand: usize,
    pub offset: usize,
    pub per_round: usize,
}

impl Start {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[self.operand, self.offset, self.per_round])
    }

    pub(super) fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            operand: numbers.number()?,
            offset: numbers.number()?,
            per_round: numbers.number()?,
        })
    }
}

/// A row of an array that has one for each round of a loop, and maybe more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where the row begins.
    pub start: Start,
    /// Rows of the array.
    pub rows: usize,
}

impl Row {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.start.write(out)?;
        out.number(self.rows)
    }

    pub(super) fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            start: Start::read(numbers)?,
            rows: numbers.number()?,
        })
    }
}

impl Layer {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[
            self.images,
            self.height,
            self.width,
            self.inputs,
            self.outputs,
            self.side,
            self.stride,
            self.pools.into(),
            self.format.number(),
        ])
    }

    pub(super) fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            images: numbers.number()?,
            height: numbers.number()?,
            width: numbers.number()?,
            inputs: numbers.number()?,
            outputs: numbers.number()?,
            side: numbers.number()?,
            stride: numbers.number()?,
            pools: numbers.yes_or_no("whether pooling follows")?,
            format: Format::of_number(numbers.number()?)?,
        })
    }
}

/// A batch norm: `[C]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    pub mean: Start,
    pub variance: Start,
    pub gamma: Start,
    pub beta: Start,
}

impl Norm {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        let all = [self.mean, self.variance, self.gamma, self.beta];
        all.iter().try_for_each(|start| start.write(out))
    }

    pub(super) fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            mean: Start::read(numbers)?,
            variance: Start::read(numbers)?,
            gamma: Start::read(numbers)?,
            beta: Start::read(numbers)?,
        })
    }
}

/// A gradient that has not yet been taken through a batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BehindNorm {
    pub norm: Norm,
    /// Σ dz · x̂, `[C]`.
    pub dgamma: Start,
    /// Σ dz, `[C]`.
    pub dbeta: Start,
    /// Values that each sum runs over.
    pub count: usize,
    /// The gradient of the batch norm's result, `[N, H, W, C]`.
    pub dz: Start,
    /// The batch norm's input, `[N, H, W, C]`.
    pub x: Start,
}

impl BehindNorm {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.norm.write(out)?;
        self.dgamma.write(out)?;
        self.dbeta.write(out)?;
        out.number(self.count)?;
        self.dz.write(out)?;
        self.x.write(out)
    }

    pub(super) fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            norm: Norm::read(numbers)?,
            dgamma: Start::read(numbers)?,
            dbeta: Start::read(numbers)?,
            count: numbers.number()?,
            dz: Start::read(numbers)?,
            x: Start::read(numbers)?,
        })
    }
}
