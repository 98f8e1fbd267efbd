//! This crate on a processor for which it has no kernels.

use std::ffi::c_void;

use crate::RegisterError;
use crate::isa::Isa;

/// There are no kernels for this processor.
pub fn isa() -> Isa {
    Isa::Generic
}

/// Only x86-64 processors have them.
pub fn has_tiles() -> bool {
    false
}

/// Would make the kernels known to the XLA runtime; there are none.
pub fn register() -> Result<(), RegisterError> {
    Ok(())
}

/// What XLA calls, by name: nothing.
pub fn handlers() -> Vec<(&'static str, *mut c_void)> {
    Vec::new()
}
