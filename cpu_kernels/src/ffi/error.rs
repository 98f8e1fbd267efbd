//! Why a call is refused.

use kernel_contract::{PLAN, PlanError};

/// What is wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// XLA speaks another version of the interface than the one that it was told.
    #[error("{what} of the call has {got} bytes, expected at least {expected}: XLA is too old")]
    Struct {
        what: &'static str,
        expected: usize,
        got: usize,
    },

    #[error("the call has no attribute `{PLAN}` that is an array of s32")]
    NoPlan,

    #[error("this call's plan is wrong: {0}")]
    Plan(#[from] PlanError),

    /// The graph declares other arrays than its plan speaks of.
    #[error("{array}: expected {expected}, got {got}")]
    Array {
        array: String,
        expected: String,
        got: String,
    },

    /// A kernel panicked: a fault of ours.
    #[error("the kernel failed: {0}")]
    Panic(String),
}
