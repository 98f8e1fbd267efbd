//! Plans as numbers, and numbers as plans.

use crate::array::Array;
use crate::error::PlanError;
use crate::kernel::{HEADER, Kernel, MAGIC, VERSION};
use crate::numbers::{Reader, Writer};

/// What a kernel is told.
pub trait Plan: Sized {
    const KERNEL: Kernel;

    /// The arrays that the kernel writes, in order.
    fn results(&self) -> Vec<Array>;

    /// The operand whose place the first result takes, if it does: what the kernel does not write stays as it was.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// Refuses what the kernel cannot compute.
    fn check(&self) -> Result<(), PlanError>;

    fn write(&self, out: &mut Writer) -> Result<(), PlanError>;

    /// The reverse of [`Self::write`].
    fn read(numbers: &mut Reader) -> Result<Self, PlanError>;

    /// The plan as numbers, with its header.
    fn encode(&self) -> Result<Vec<i32>, PlanError> {
        self.check()?;
        let mut out = Writer(vec![MAGIC, VERSION, Self::KERNEL as i32, 0]);
        self.write(&mut out)?;
        let mut numbers = out.0;
        // The longest plans, of inference, have a few thousand numbers.
        numbers[HEADER - 1] = numbers.len() as i32;
        Ok(numbers)
    }

    /// The plan in `numbers`, header first.
    fn decode(numbers: &[i32]) -> Result<Self, PlanError> {
        let (header, fields) = numbers.split_first_chunk().ok_or(PlanError::Short)?;
        let expected = length(header)?;
        if numbers.len() != expected {
            let got = numbers.len();
            return Err(PlanError::Length { expected, got });
        }
        let (expected, got) = (Self::KERNEL as i32, header[2]);
        if got != expected {
            return Err(PlanError::Kernel { expected, got });
        }
        let mut fields = Reader(fields);
        let plan = Self::read(&mut fields)?;
        if !fields.0.is_empty() {
            return Err(PlanError::Length {
                expected: numbers.len() - fields.0.len(),
                got: numbers.len(),
            });
        }
        plan.check()?;
        Ok(plan)
    }
}

/// How many numbers the plan has that begins with `header`.
fn length(header: &[i32; HEADER]) -> Result<usize, PlanError> {
    let [magic, version, _, length] = *header;
    if magic != MAGIC {
        return Err(PlanError::Magic { got: magic });
    }
    if version != VERSION {
        return Err(PlanError::Version { got: version });
    }
    usize::try_from(length).map_err(|_| PlanError::Short)
}
