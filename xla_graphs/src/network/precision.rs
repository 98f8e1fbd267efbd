//! The number format of a network.

use std::fmt;

#[cfg(feature = "trace")]
use xla::PrimitiveType;

/// The number format of activations and kernels; master weights, statistics and loss are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(feature = "trace")]
impl Precision {
    /// The element type of activations.
    pub(crate) fn primitive(self) -> PrimitiveType {
        match self {
            Self::F32 => PrimitiveType::F32,
            Self::Bf16 => PrimitiveType::Bf16,
        }
    }
}
