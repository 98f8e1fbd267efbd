//! The plans of all kernels but the layers.

use super::fields::{BehindNorm, Start};
use crate::codec::Plan;
use crate::error::PlanError;
use crate::format::Format;
use crate::kernel::{Kernel, LANES};
use crate::layer::check_channels;
use crate::numbers::{Reader, Writer};

/// The backward pass through a batch norm: dx `[pixels, C]`, with what else flows to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBackward {
    pub pixels: usize,
    pub channels: usize,
    /// Of the result and the gradients that it is made of.
    pub format: Format,
    pub behind: BehindNorm,
    /// Whether `added` belongs to the gradient of the batch norm's result, or else to its input's.
    pub joined: bool,
    /// `[pixels, C]`.
    pub added: Start,
}

impl NormBackward {
    /// Values of the result.
    pub fn values(&self) -> usize {
        self.pixels * self.channels
    }

    /// The result in lanes.
    pub fn lanes(&self) -> usize {
        self.values() / LANES
    }
}

impl Plan for NormBackward {
    const KERNEL: Kernel = Kernel::NormBackward;

    fn check(&self) -> Result<(), PlanError> {
        check_channels("channels", self.channels)
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[self.pixels, self.channels, self.format.number()])?;
        self.behind.write(out)?;
        out.number(self.joined.into())?;
        self.added.write(out)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            pixels: numbers.number()?,
            channels: numbers.number()?,
            format: Format::of_number(numbers.number()?)?,
            behind: BehindNorm::read(numbers)?,
            joined: numbers.yes_or_no("whether two gradients are joined")?,
            added: Start::read(numbers)?,
        })
    }
}

/// A copy of part of an array: `count` places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: Start,
    pub count: usize,
}

impl Plan for Part {
    const KERNEL: Kernel = Kernel::Part;

    fn check(&self) -> Result<(), PlanError> {
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.start.write(out)?;
        out.number(self.count)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            start: Start::read(numbers)?,
            count: numbers.number()?,
        })
    }
}

/// An array whose values are not set: whoever takes it must write before reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Sets this array apart from others of the same size: XLA makes one array of equal calls.
    pub number: usize,
}

impl Plan for Unwritten {
    const KERNEL: Kernel = Kernel::Unwritten;

    fn check(&self) -> Result<(), PlanError> {
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.number(self.number)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            number: numbers.number()?,
        })
    }
}
