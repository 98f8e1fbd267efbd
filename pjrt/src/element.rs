//! The types of an array's elements.

#![allow(non_upper_case_globals, reason = "the names of the C header")]

use std::fmt;

use crate::bindings::*;

/// A type of elements that arrays on the host can have.
///
/// # Safety
/// [`Self::TYPE`] has the size and the bits of `Self`, and every pattern of bits is a value.
pub unsafe trait Element: Copy + Default + Send + Sync + 'static {
    const TYPE: ElementType;
}

/// The type of the elements of an array on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType(pub(crate) PJRT_Buffer_Type);

// SAFETY: each is the type of this name; numbers have no invalid bits.
unsafe impl Element for f32 {
    const TYPE: ElementType = ElementType(PJRT_Buffer_Type_F32);
}
// SAFETY: as above.
unsafe impl Element for i32 {
    const TYPE: ElementType = ElementType(PJRT_Buffer_Type_S32);
}
// SAFETY: as above.
unsafe impl Element for half::bf16 {
    const TYPE: ElementType = ElementType(PJRT_Buffer_Type_BF16);
}
// SAFETY: as above.
unsafe impl Element for u8 {
    const TYPE: ElementType = ElementType(PJRT_Buffer_Type_U8);
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            PJRT_Buffer_Type_F32 => f.write_str("f32"),
            PJRT_Buffer_Type_S32 => f.write_str("i32"),
            PJRT_Buffer_Type_U8 => f.write_str("u8"),
            PJRT_Buffer_Type_BF16 => f.write_str("bf16"),
            PJRT_Buffer_Type_PRED => f.write_str("bool"),
            other => write!(f, "PJRT_Buffer_Type {other}"),
        }
    }
}
