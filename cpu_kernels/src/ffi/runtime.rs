//! Makes handlers known to the XLA runtime that this program is linked with.

use std::ffi::CStr;
use std::mem::{offset_of, size_of};
use std::ptr;

use super::c_api::{
    Api, ByteSpan, Error, ErrorDestroyArgs, ErrorGetMessageArgs, Handler, HandlerBundle,
    HandlerRegisterArgs,
};
use crate::RegisterError;

// The crate links the runtime.
extern crate xla as _;

unsafe extern "C" {
    /// `xla::ffi::GetXlaFfiApi()`, a C++ function without arguments: the interface of the runtime, which is always there.
    #[link_name = "_ZN3xla3ffi12GetXlaFfiApiEv"]
    safe fn xla_ffi_api() -> *const Api;
}

/// Makes `handler` known as `name`, for programs that run on `platform`.
pub fn register(name: &str, platform: &str, handler: Handler) -> Result<(), RegisterError> {
    // SAFETY: the runtime's interface lives as long as the process.
    let api = unsafe { &*xla_ffi_api() };
    let missing = || RegisterError("the runtime has no function for it".to_owned());
    let register = api.handler_register.ok_or_else(missing)?;
    let mut args = HandlerRegisterArgs {
        struct_size: offset_of!(HandlerRegisterArgs, traits) + size_of::<u32>(),
        extension_start: ptr::null(),
        name: span(name),
        platform: span(platform),
        bundle: HandlerBundle {
            instantiate: None,
            prepare: None,
            initialize: None,
            execute: Some(handler),
        },
        traits: 0,
    };
    // SAFETY: `args` is what the interface has for this function; the runtime copies the texts.
    let error = unsafe { register(&mut args) };
    match error.is_null() {
        true => Ok(()),
        false => Err(RegisterError(take_message(api, error))),
    }
}

fn span(text: &str) -> ByteSpan {
    ByteSpan {
        start: text.as_ptr().cast(),
        len: text.len(),
    }
}

/// The text of `error`, which is freed.
fn take_message(api: &Api, error: *mut Error) -> String {
    let mut args = ErrorGetMessageArgs {
        struct_size: size_of::<ErrorGetMessageArgs>(),
        extension_start: ptr::null(),
        error,
        message: ptr::null(),
    };
    let mut destroy = ErrorDestroyArgs {
        struct_size: size_of::<ErrorDestroyArgs>(),
        extension_start: ptr::null(),
        error,
    };
    let mut text = String::new();
    // SAFETY: the error is live until it is destroyed, and its text as long as it is.
    unsafe {
        if let Some(get_message) = api.error_get_message {
            get_message(&mut args);
            if !args.message.is_null() {
                text = CStr::from_ptr(args.message).to_string_lossy().into_owned();
            }
        }
        if let Some(free) = api.error_destroy {
            free(&mut destroy);
        }
    }
    text
}
