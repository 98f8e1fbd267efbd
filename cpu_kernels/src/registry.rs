//! Makes the kernels known to XLA.

use std::ffi::c_void;
#[cfg(feature = "xla")]
use std::sync::OnceLock;

use crate::x86::HANDLERS;
#[cfg(feature = "xla")]
use crate::{PLATFORM, RegisterError, ffi};

/// Makes the kernels known to the XLA runtime that this program is linked with.
///
/// # Errors
/// What the runtime says against them.
#[cfg(feature = "xla")]
pub fn register() -> Result<(), RegisterError> {
    static DONE: OnceLock<Result<(), RegisterError>> = OnceLock::new();
    let register = || {
        let mut handlers = HANDLERS.iter();
        handlers.try_for_each(|(kernel, handler)| ffi::register(kernel.name(), PLATFORM, *handler))
    };
    DONE.get_or_init(register).clone()
}

/// What another XLA calls, such as a plugin's: the name of each kernel, and the address of its `XLA_FFI_Handler`, which
/// is there as long as the process.
pub fn handlers() -> Vec<(&'static str, *mut c_void)> {
    let handlers = HANDLERS.iter();
    let handlers = handlers.map(|(kernel, handler)| (kernel.name(), *handler as *mut c_void));
    handlers.collect()
}
