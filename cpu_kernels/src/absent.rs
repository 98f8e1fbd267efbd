//! This crate on a processor for which it has no kernels.

use crate::isa::Isa;

/// There are no kernels for this processor.
pub fn isa() -> Isa {
    Isa::Generic
}

/// Would make the kernels known to XLA; there are none.
pub fn register() {}
