//! This crate on a processor for which it has no kernels.

/// Whether this processor can run the kernels: it cannot.
pub fn supported() -> bool {
    false
}

/// Would make the kernels known to XLA; there are none.
pub fn register() {}
