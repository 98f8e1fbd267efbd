//! The structs of XLA's `profiler_c_api.h` and `pjrt_c_api_profiler_extension.h`, as far as they are used.
//! `tests/odd_answers.rs` holds them to these headers.

#![allow(dead_code, reason = "plugins read what is written here")]

use std::ffi::{c_char, c_int, c_void};

use crate::bindings::PJRT_Extension_Base;

/// A function of the profiler; what it returns is an error, or null.
pub type Function<A> = Option<unsafe extern "C" fn(*mut A) -> *mut c_void>;

/// `PJRT_Profiler_Extension`.
#[repr(C)]
pub struct Extension {
    pub base: PJRT_Extension_Base,
    pub functions: *const Functions,
}

/// `PLUGIN_Profiler_Api`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Functions {
    pub struct_size: usize,
    /// A pointer of the plugin's own, as a number.
    pub private: usize,
    pub error_destroy: Option<unsafe extern "C" fn(*mut DestroyError)>,
    pub error_message: Option<unsafe extern "C" fn(*mut ErrorMessage)>,
    pub error_get_code: Function<ErrorCode>,
    pub create: Function<Create>,
    pub destroy: Function<Handle>,
    pub start: Function<Handle>,
    pub stop: Function<Handle>,
    pub collect_data: Function<Collect>,
}

/// `PLUGIN_Profiler_Error_Destroy_Args`.
#[repr(C)]
pub struct DestroyError {
    pub struct_size: usize,
    pub private: *mut c_void,
    pub error: *mut c_void,
}

/// `PLUGIN_Profiler_Error_Message_Args`.
#[repr(C)]
pub struct ErrorMessage {
    pub struct_size: usize,
    pub private: *mut c_void,
    pub error: *mut c_void,
    pub message: *const c_char,
    pub message_size: usize,
}

/// `PLUGIN_Profiler_Error_GetCode_Args`.
#[repr(C)]
pub struct ErrorCode {
    pub struct_size: usize,
    pub private: *mut c_void,
    pub error: *mut c_void,
    pub code: c_int,
}

/// `PLUGIN_Profiler_Create_Args`.
#[repr(C)]
pub struct Create {
    pub struct_size: usize,
    pub options: *const c_char,
    pub options_size: usize,
    pub profiler: *mut c_void,
}

/// `PLUGIN_Profiler_Destroy_Args`, `PLUGIN_Profiler_Start_Args` and `PLUGIN_Profiler_Stop_Args`.
#[repr(C)]
pub struct Handle {
    pub struct_size: usize,
    pub profiler: *mut c_void,
}

/// `PLUGIN_Profiler_CollectData_Args`.
#[repr(C)]
pub struct Collect {
    pub struct_size: usize,
    pub profiler: *mut c_void,
    pub buffer: *mut u8,
    pub buffer_size_in_bytes: usize,
}
