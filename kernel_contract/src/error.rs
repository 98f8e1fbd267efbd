//! What can be wrong with a plan.

use crate::kernel::{MAGIC, VERSION};

/// Why numbers are not a plan, or a plan does not become numbers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The graph's sizes do not fit the plan's numbers.
    #[error("{number} is more than a kernel can count: use a smaller --batch-size")]
    TooLarge { number: usize },

    #[error("it begins with {got:#x} instead of {MAGIC:#x}: it is not a plan of this program")]
    Magic { got: i32 },

    #[error(
        "expected version {VERSION} of the plans, got {got}: the graph and the kernels were built \
         from different sources; build both anew"
    )]
    Version { got: i32 },

    #[error("expected the plan of kernel {expected}, got that of kernel {got}")]
    Kernel { expected: i32, got: i32 },

    #[error("expected {expected} numbers, got {got}")]
    Length { expected: usize, got: usize },

    /// The plan ends before its last field.
    #[error("it ends before its last field")]
    Short,

    /// No kernel computes this.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        what: &'static str,
        expected: &'static str,
        got: String,
    },
}
