//! The plans of all kernels but the layers.

use super::fields::{BehindNorm, Start};
use crate::array::Array;
use crate::codec::Plan;
use crate::error::PlanError;
use crate::format::Format;
use crate::kernel::{Kernel, LANES};
use crate::layer::check_channels;
use crate::numbers::{Reader, Writer};

/// The backward pass through a batch norm: dx `[N, H, W, C]`, with what else flows to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBackward {
    /// `[N, H, W, C]`.
    pub dims: [usize; 4],
    /// Of the result and the gradients that it is made of.
    pub format: Format,
    pub behind: BehindNorm,
    /// Whether `added` belongs to the gradient of the batch norm's result, or else to its input's.
    pub joined: bool,
    /// `[N, H, W, C]`, all of an operand, in whose place dx comes.
    pub added: Start,
}

impl NormBackward {
    pub fn channels(&self) -> usize {
        self.dims[3]
    }

    /// The result in lanes.
    pub fn lanes(&self) -> usize {
        self.dims.iter().product::<usize>() / LANES
    }
}

impl Plan for NormBackward {
    const KERNEL: Kernel = Kernel::NormBackward;

    fn results(&self) -> Vec<Array> {
        vec![Array::of(self.format, &self.dims)]
    }

    fn in_place(&self) -> Option<usize> {
        Some(self.added.operand)
    }

    fn check(&self) -> Result<(), PlanError> {
        check_channels("channels", self.channels())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&self.dims)?;
        out.number(self.format.number())?;
        self.behind.write(out)?;
        out.number(self.joined.into())?;
        self.added.write(out)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            dims: [
                numbers.number()?,
                numbers.number()?,
                numbers.number()?,
                numbers.number()?,
            ],
            format: Format::of_number(numbers.number()?)?,
            behind: BehindNorm::read(numbers)?,
            joined: numbers.yes_or_no("whether two gradients are joined")?,
            added: Start::read(numbers)?,
        })
    }
}

/// An array whose values are not set: whoever takes it must write before reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    pub array: Array,
    /// Sets this array apart from others of the same type: XLA makes one array of equal calls.
    pub number: usize,
}

impl Plan for Unwritten {
    const KERNEL: Kernel = Kernel::Unwritten;

    fn results(&self) -> Vec<Array> {
        vec![self.array.clone()]
    }

    fn check(&self) -> Result<(), PlanError> {
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        let Array { format, dims } = &self.array;
        out.numbers(&[self.number, format.number(), dims.len()])?;
        out.numbers(dims)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        let number = numbers.number()?;
        let format = Format::of_number(numbers.number()?)?;
        let rank = numbers.number()?;
        let dims = (0..rank).map(|_| numbers.number());
        let dims = dims.collect::<Result<_, _>>()?;
        let array = Array { format, dims };
        Ok(Self { array, number })
    }
}
