//! The number formats of images between layers.

use crate::error::PlanError;

/// How images and their gradients are stored. Weights, statistics and sums are f32 whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F32,
    /// The upper half of an f32. Factors of products are bf16 too; their sums are f32.
    Bf16,
}

impl Format {
    pub(crate) fn number(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::Bf16 => 1,
        }
    }

    pub(crate) fn of_number(number: usize) -> Result<Self, PlanError> {
        match number {
            0 => Ok(Self::F32),
            1 => Ok(Self::Bf16),
            other => Err(PlanError::Value {
                what: "the number format",
                expected: "0 for f32 or 1 for bf16",
                got: other.to_string(),
            }),
        }
    }
}
