//! What arrays are read and written as.

use super::c_api::{BF16, F32, S32};
use crate::x86::format::{Half, Lanes};

/// A value of an array, or several neighbours.
///
/// # Safety
/// Any bits are one, and it is [`Self::VALUES`] values of type [`Self::DATA_TYPE`] one after another, no more.
pub unsafe trait Element: Copy {
    /// As XLA counts the types.
    const DATA_TYPE: i32;
    const VALUES: usize;
}

// SAFETY: an s32 is one.
unsafe impl Element for i32 {
    const DATA_TYPE: i32 = S32;
    const VALUES: usize = 1;
}

// SAFETY: an f32 is one.
unsafe impl Element for f32 {
    const DATA_TYPE: i32 = F32;
    const VALUES: usize = 1;
}

// SAFETY: it is 16 of f32.
unsafe impl Element for Lanes {
    const DATA_TYPE: i32 = F32;
    const VALUES: usize = 16;
}

// SAFETY: it is 16 of bf16, as bits.
unsafe impl Element for Half {
    const DATA_TYPE: i32 = BF16;
    const VALUES: usize = 16;
}

/// The name of a type, as XLA writes it.
pub fn name(data_type: i32) -> String {
    match data_type {
        S32 => "s32".to_owned(),
        F32 => "f32".to_owned(),
        BF16 => "bf16".to_owned(),
        other => format!("type {other}"),
    }
}
