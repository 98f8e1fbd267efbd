//! The key-value store in which the processes of one client find each other.
//!
//! A plugin calls C functions for it, with a pointer that they get back. Here they are for a [`KeyValueStore`]; what goes
//! wrong in it, a panic too, reaches the plugin as an error of its own making.

use std::ffi::{c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::api::slice_of;
use crate::bindings::*;

/// Values by key, the same for all processes. A plugin calls it from any of its threads, from several at once.
pub trait KeyValueStore: Send + Sync {
    /// Gives `key` its value, for ever.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// The value of `key`; waits for `timeout` until somebody has put it there.
    fn get(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError>;

    /// The value of `key`, if it is there now, or else [`StoreErrorKind::NotFound`].
    fn try_get(&self, key: &[u8]) -> Result<Vec<u8>, StoreError>;
}

/// Why a store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    pub message: String,
}

/// What a plugin may tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    NotFound,
    TimedOut,
    /// The key has another value.
    AlreadyThere,
    Full,
    /// The processes do not fit together.
    Refused,
    /// Another process has ended, or the way to it.
    Lost,
    /// A fault of the store itself.
    Internal,
}

impl StoreError {
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    fn code(&self) -> PJRT_Error_Code {
        match self.kind {
            StoreErrorKind::NotFound => PJRT_Error_Code_NOT_FOUND,
            StoreErrorKind::TimedOut => PJRT_Error_Code_DEADLINE_EXCEEDED,
            StoreErrorKind::AlreadyThere => PJRT_Error_Code_ALREADY_EXISTS,
            StoreErrorKind::Full => PJRT_Error_Code_RESOURCE_EXHAUSTED,
            StoreErrorKind::Refused => PJRT_Error_Code_FAILED_PRECONDITION,
            StoreErrorKind::Lost => PJRT_Error_Code_UNAVAILABLE,
            StoreErrorKind::Internal => PJRT_Error_Code_INTERNAL,
        }
    }
}

/// A store where a plugin's pointer leads. It must stay as long as the client that was created with it.
pub(crate) struct Held(Arc<dyn KeyValueStore>);

impl Held {
    pub(crate) fn new(store: Arc<dyn KeyValueStore>) -> Arc<Self> {
        Arc::new(Self(store))
    }

    /// Has the client that `args` create call the store.
    pub(crate) fn pass(self: &Arc<Self>, args: &mut PJRT_Client_Create_Args) {
        let held = Arc::as_ptr(self).cast_mut().cast::<c_void>();
        args.kv_get_callback = Some(get);
        args.kv_get_user_arg = held;
        args.kv_put_callback = Some(put);
        args.kv_put_user_arg = held;
        args.kv_try_get_callback = Some(try_get);
        args.kv_try_get_user_arg = held;
    }
}

/// A function that answers a key with its value. The arguments of the two are the same but in their type, and in what
/// `$ask` does with the `$store`, the `$key` and them.
macro_rules! answer_with_a_value {
    ($name:ident, $args:ty, $size:ident, |$store:ident, $key:ident, $asked:ident| $ask:expr) => {
        /// # Safety
        /// As the interface has it: `args` is a struct of the size that it says, with a key of the size that it says, and
        /// the pointer of [`Held::pass`].
        unsafe extern "C" fn $name($asked: *mut $args) -> *mut PJRT_Error {
            // SAFETY: the caller's promise, for all pointers that are read here; the size is checked before anything is
            // written.
            unsafe {
                if (*$asked).struct_size < $size as usize {
                    return report((*$asked).callback_error, &too_short());
                }
                let $key = slice_of((*$asked).key.cast::<u8>(), (*$asked).key_size);
                let $store = held((*$asked).user_arg);
                match guarded(|| copied(&$ask?)) {
                    Ok((value, len)) => {
                        (*$asked).value = value.cast();
                        (*$asked).value_size = len;
                        (*$asked).value_deleter_callback = Some(free_value);
                        ptr::null_mut()
                    }
                    Err(error) => report((*$asked).callback_error, &error),
                }
            }
        }
    };
}

answer_with_a_value!(
    get,
    PJRT_KeyValueGetCallback_Args,
    PJRT_KeyValueGetCallback_Args_STRUCT_SIZE,
    |store, key, args| store.get(key, duration((*args).timeout_in_ms))
);

answer_with_a_value!(
    try_get,
    PJRT_KeyValueTryGetCallback_Args,
    PJRT_KeyValueTryGetCallback_Args_STRUCT_SIZE,
    |store, key, args| store.try_get(key)
);

/// # Safety
/// As of [`get`], with a value of the size that `args` say.
unsafe extern "C" fn put(args: *mut PJRT_KeyValuePutCallback_Args) -> *mut PJRT_Error {
    // SAFETY: as in [`get`].
    unsafe {
        if (*args).struct_size < PJRT_KeyValuePutCallback_Args_STRUCT_SIZE as usize {
            return report((*args).callback_error, &too_short());
        }
        let key = slice_of((*args).key.cast::<u8>(), (*args).key_size);
        let value = slice_of((*args).value.cast::<u8>(), (*args).value_size);
        match guarded(|| held((*args).user_arg).put(key, value)) {
            Ok(()) => ptr::null_mut(),
            Err(error) => report((*args).callback_error, &error),
        }
    }
}

/// # Safety
/// `argument` is the pointer of [`Held::pass`], and the store is still held.
unsafe fn held<'a>(argument: *mut c_void) -> &'a dyn KeyValueStore {
    // SAFETY: the caller's promise.
    let held = unsafe { &*argument.cast::<Held>() };
    held.0.as_ref()
}

/// A plugin's timeout; one that is negative has no end.
fn duration(milliseconds: c_int) -> Duration {
    let milliseconds = u32::try_from(milliseconds).unwrap_or(u32::MAX);
    Duration::from_millis(milliseconds.into())
}

/// What `ask` answers; a panic must not reach a plugin.
fn guarded<T>(ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let answer = panic::catch_unwind(AssertUnwindSafe(ask));
    answer.unwrap_or_else(|_| {
        let message = "the key-value store panicked";
        Err(StoreError::new(StoreErrorKind::Internal, message))
    })
}

/// A copy of `value` that [`free_value`] frees, and its length.
fn copied(value: &[u8]) -> Result<(*mut c_void, usize), StoreError> {
    // SAFETY: it takes any size; of 0 bytes it may give none, which would look like a failure.
    let copy = unsafe { libc::malloc(value.len().max(1)) };
    if copy.is_null() {
        let message = format!("there is no memory for a value of {} bytes", value.len());
        return Err(StoreError::new(StoreErrorKind::Full, message));
    }
    // SAFETY: there is room for as many bytes, which nobody else has.
    unsafe { ptr::copy_nonoverlapping(value.as_ptr(), copy.cast::<u8>(), value.len()) };
    Ok((copy, value.len()))
}

/// # Safety
/// `value` is of [`copied`], and nobody reads it afterwards.
unsafe extern "C" fn free_value(value: *mut c_char) {
    // SAFETY: the caller's promise.
    unsafe { libc::free(value.cast()) }
}

fn too_short() -> StoreError {
    let message =
        "the plugin asks the key-value store with arguments that have no room for an answer";
    StoreError::new(StoreErrorKind::Internal, message)
}

/// `error` as one of the plugin's.
///
/// # Safety
/// `make` is the plugin's function for that.
unsafe fn report(make: *mut PJRT_CallbackError, error: &StoreError) -> *mut PJRT_Error {
    let message = error.message.as_str();
    // SAFETY: the caller's promise; the text is there for the call.
    unsafe {
        match make.as_ref().copied().flatten() {
            Some(make) => make(error.code(), message.as_ptr().cast(), message.len()),
            // A plugin that takes no errors gets a value without an address.
            None => ptr::null_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_without_an_end_is_the_longest_that_there_is() {
        assert_eq!(duration(1500), Duration::from_millis(1500));
        for endless in [-1, c_int::MIN] {
            assert!(duration(endless) > Duration::from_secs(40 * 24 * 3600));
        }
    }

    #[test]
    fn a_panic_of_the_store_becomes_an_error() {
        let answer = guarded::<()>(|| panic!("of a test"));
        assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Internal);
    }
}
