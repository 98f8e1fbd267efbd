//! Calls through a plugin's table of functions, and what comes back as pointers.

use std::ffi::c_char;
use std::ptr;
use std::slice;

use crate::bindings::*;
use crate::error::{PjrtError, Result};

/// The struct of one function's arguments and results, paired with the function in `generated/calls.rs`.
///
/// # Safety
/// [`Self::function`] is the function that the interface pairs with the struct, and [`Self::set_size`]
/// writes the struct's size as the interface counts it.
pub(crate) unsafe trait Arguments: Sized {
    /// The function's name.
    const NAME: &'static str;

    fn function(table: &PJRT_Api) -> Option<unsafe extern "C" fn(*mut Self) -> *mut PJRT_Error>;

    fn set_size(&mut self);
}

macro_rules! pair {
    ($function:ident, $arguments:ident, $size:ident) => {
        // SAFETY: the three names are of one function of the header.
        unsafe impl Arguments for $arguments {
            const NAME: &'static str = stringify!($function);

            fn function(
                table: &PJRT_Api,
            ) -> Option<unsafe extern "C" fn(*mut Self) -> *mut PJRT_Error> {
                table.$function
            }

            fn set_size(&mut self) {
                self.struct_size = $size as usize;
            }
        }
    };
}
include!("generated/calls.rs");

/// The functions of a loaded plugin.
pub(crate) struct Api {
    /// A copy, zero (no function) where the plugin's own table ends earlier than ours.
    pub(crate) table: PJRT_Api,
}

// SAFETY: the interface says that its functions may be called from any thread, and the table is never
// written to after it was made.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

impl Api {
    /// Calls the function that `args` belongs to. It reads and writes `args`, whose size is set here.
    pub(crate) fn call<A: Arguments>(&self, args: &mut A) -> Result<()> {
        let function = A::function(&self.table).ok_or(PjrtError::MissingFunction(A::NAME))?;
        args.set_size();
        // SAFETY: `args` is the struct that the interface pairs with this function, its size is set, and
        // every pointer in it is valid for the call.
        let error = unsafe { function(args) };
        self.check(A::NAME, error)
    }

    /// The `error` that `function` returned, null for none, as a value.
    pub(crate) fn check(&self, function: &'static str, error: *mut PJRT_Error) -> Result<()> {
        if error.is_null() {
            return Ok(());
        }
        let (code, message) = (self.code(error), self.message(error));
        self.free_error(error);
        Err(match code {
            Some(code) if code == PJRT_Error_Code_UNIMPLEMENTED => {
                PjrtError::Unimplemented { function, message }
            }
            _ => PjrtError::Call { function, message },
        })
    }

    /// Fails where the plugin lacks the function of `A`: for a function that something which cannot be
    /// undone will need.
    pub(crate) fn require<A: Arguments>(&self) -> Result<()> {
        match A::function(&self.table) {
            Some(_) => Ok(()),
            None => Err(PjrtError::MissingFunction(A::NAME)),
        }
    }

    /// Gives something of the plugin's back to it. A failure leaves nobody to tell and nothing to do.
    pub(crate) fn free<A: Arguments>(&self, mut args: A) {
        let _ = self.call(&mut args);
    }

    fn code(&self, error: *mut PJRT_Error) -> Option<PJRT_Error_Code> {
        let mut args = PJRT_Error_GetCode_Args {
            struct_size: PJRT_Error_GetCode_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        // SAFETY: the error is live, and the call writes only the code.
        unsafe { self.table.PJRT_Error_GetCode?(&mut args) };
        Some(args.code)
    }

    /// An error's text, on one line.
    fn message(&self, error: *mut PJRT_Error) -> String {
        let mut args = PJRT_Error_Message_Args {
            struct_size: PJRT_Error_Message_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        let Some(function) = self.table.PJRT_Error_Message else {
            return "the plugin gives no text for its errors".to_owned();
        };
        // SAFETY: the error is live; the text that the call returns lives as long as the error.
        let message = unsafe {
            function(&mut args);
            text(args.message, args.message_size)
        };
        let lines = message.lines().map(str::trim);
        lines.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn free_error(&self, error: *mut PJRT_Error) {
        let mut args = PJRT_Error_Destroy_Args {
            struct_size: PJRT_Error_Destroy_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        if let Some(function) = self.table.PJRT_Error_Destroy {
            // SAFETY: the error is live, and nobody names it afterwards.
            unsafe { function(&mut args) };
        }
    }
}

/// The plugin's table in our version's form.
///
/// # Safety
/// `theirs` points to a table that has as many bytes as its `struct_size` says. They may be fewer than ours has, so it
/// is never looked at as a whole.
pub(crate) unsafe fn copy_table(theirs: *const PJRT_Api) -> PJRT_Api {
    let mut ours = PJRT_Api::default();
    // SAFETY: every table begins with its size.
    let size = unsafe { (&raw const (*theirs).struct_size).read() };
    let size = size.min(size_of::<PJRT_Api>());
    // SAFETY: the plugin's table has `struct_size` bytes, ours at least `size`. The table is plain
    // numbers and pointers to functions, of which zero means none.
    unsafe {
        ptr::copy_nonoverlapping(theirs.cast::<u8>(), ptr::from_mut(&mut ours).cast(), size);
    }
    ours
}

/// What the function of `A` returned as `raw`, a `what` of the plugin's.
pub(crate) fn given<A: Arguments, T>(raw: *mut T, what: &'static str) -> Result<*mut T> {
    if raw.is_null() {
        return Err(PjrtError::Nothing {
            function: A::NAME,
            what,
        });
    }
    Ok(raw)
}

/// `len` times `value`, where `len` is what the function of `A` said.
///
/// # Errors
/// More than there is memory for.
pub(crate) fn filled<A: Arguments, T: Clone>(value: T, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    reserve::<A, T>(&mut values, len)?;
    values.resize(len, value);
    Ok(values)
}

/// Makes room for `len` elements in `values`, or says that what the function of `A` said is too much.
pub(crate) fn reserve<A: Arguments, T>(values: &mut Vec<T>, len: usize) -> Result<()> {
    let reserved = values.try_reserve_exact(len);
    reserved.map_err(|_| PjrtError::TooLarge { function: A::NAME })
}

/// The array of `len` elements at `data`; empty where there is none, and where there can be none because no memory has
/// so many bytes.
///
/// # Safety
/// `data` points to `len` elements that outlive the result, or `len` is 0.
pub(crate) unsafe fn slice_of<'a, T>(data: *const T, len: usize) -> &'a [T] {
    let bytes = len.checked_mul(size_of::<T>());
    let possible = bytes.is_some_and(|bytes| bytes <= isize::MAX as usize);
    if data.is_null() || len == 0 || !possible {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, len) }
}

/// A copy of the text of `len` bytes at `data`.
///
/// # Safety
/// `data` points to `len` bytes, or `len` is 0.
pub(crate) unsafe fn text(data: *const c_char, len: usize) -> String {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice_of(data.cast::<u8>(), len) };
    String::from_utf8_lossy(bytes).into_owned()
}
