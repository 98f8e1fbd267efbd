//! A plan's numbers, written and read one after the other.

use crate::error::PlanError;

/// The numbers of a plan under construction.
pub struct Writer(pub Vec<i32>);

impl Writer {
    pub fn number(&mut self, number: usize) -> Result<(), PlanError> {
        let number = i32::try_from(number).map_err(|_| PlanError::TooLarge { number })?;
        self.0.push(number);
        Ok(())
    }

    pub fn numbers(&mut self, numbers: &[usize]) -> Result<(), PlanError> {
        numbers.iter().try_for_each(|number| self.number(*number))
    }
}

/// The numbers of a plan that are still to be read.
pub struct Reader<'a>(pub &'a [i32]);

impl Reader<'_> {
    pub fn number(&mut self) -> Result<usize, PlanError> {
        let (first, rest) = self.0.split_first().ok_or(PlanError::Short)?;
        self.0 = rest;
        usize::try_from(*first).map_err(|_| PlanError::Value {
            what: "a number",
            expected: "0 or more",
            got: first.to_string(),
        })
    }

    pub fn yes_or_no(&mut self, what: &'static str) -> Result<bool, PlanError> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(PlanError::Value {
                what,
                expected: "0 or 1",
                got: other.to_string(),
            }),
        }
    }
}
