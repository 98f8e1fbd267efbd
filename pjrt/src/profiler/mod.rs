//! What a plugin's devices do, recorded by the plugin's own profiler.
//!
//! The profiler is an extension with a C header of its own, `header.rs`.

mod header;

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::api::{Api, slice_of, text};
use crate::bindings::PJRT_Extension_Type_Profiler;
use crate::error::{PjrtError, Result};
use crate::extension;
use header::{Collect, Create, DestroyError, ErrorMessage, Extension, Function, Functions, Handle};

/// The profiler's name among the extensions.
const NAME: &str = "Profiler";
const COLLECT: &str = "PLUGIN_Profiler_CollectData";

/// A recording of what a plugin's devices do; it goes on until [`Self::finish`].
pub struct Recording {
    functions: Functions,
    raw: *mut c_void,
    _plugin: Arc<Api>,
}

impl Recording {
    /// # Errors
    /// A plugin without the extension; what its profiler says when it cannot start.
    pub(crate) fn start(api: &Arc<Api>) -> Result<Self> {
        let functions = functions(api).ok_or(PjrtError::MissingExtension(NAME))?;
        let options = options();
        let mut args = Create {
            struct_size: size_of::<Create>(),
            options: options.as_ptr().cast(),
            options_size: options.len(),
            profiler: ptr::null_mut(),
        };
        functions.call("PLUGIN_Profiler_Create", functions.create, &mut args)?;
        if args.profiler.is_null() {
            return Err(PjrtError::Nothing {
                function: "PLUGIN_Profiler_Create",
                what: "profiler",
            });
        }
        let recording = Self {
            functions,
            raw: args.profiler,
            _plugin: Arc::clone(api),
        };
        let start = functions.start;
        functions.call("PLUGIN_Profiler_Start", start, &mut recording.handle())?;
        Ok(recording)
    }

    /// Ends the recording and returns it: a serialised `XSpace`, as TensorBoard reads it.
    pub fn finish(self) -> Result<Vec<u8>> {
        let functions = self.functions;
        functions.call("PLUGIN_Profiler_Stop", functions.stop, &mut self.handle())?;
        let mut args = Collect {
            struct_size: size_of::<Collect>(),
            profiler: self.raw,
            buffer: ptr::null_mut(),
            buffer_size_in_bytes: 0,
        };
        functions.call(COLLECT, functions.collect_data, &mut args)?;
        let size = args.buffer_size_in_bytes;
        if !args.buffer.is_null() {
            // What XLA's own plugins do, against the header: the bytes are there already, in the profiler's memory.
            // SAFETY: the plugin returned this array; it lives as long as the profiler.
            let bytes = unsafe { slice_of(args.buffer.cast_const(), size) };
            return Ok(message(bytes).to_vec());
        }
        // What the header says: the first call tells the size, the second writes the bytes.
        let mut bytes = Vec::new();
        let reserved = bytes.try_reserve_exact(size);
        reserved.map_err(|_| PjrtError::TooLarge { function: COLLECT })?;
        bytes.resize(size, 0);
        args.buffer = bytes.as_mut_ptr();
        functions.call(COLLECT, functions.collect_data, &mut args)?;
        Ok(bytes)
    }

    /// The arguments of a function that takes nothing but the profiler.
    fn handle(&self) -> Handle {
        Handle {
            struct_size: size_of::<Handle>(),
            profiler: self.raw,
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let destroy = self.functions.destroy;
        // A failure leaves nobody to tell and nothing to do.
        let _ = self
            .functions
            .call("PLUGIN_Profiler_Destroy", destroy, &mut self.handle());
    }
}

/// The protocol buffer in `bytes`, behind which XLA's own plugins leave a zero.
fn message(bytes: &[u8]) -> &[u8] {
    match bytes.split_last() {
        Some((0, before)) if <() as Message>::decode(bytes).is_err() => before,
        _ => bytes,
    }
}

/// What to record, as JAX asks for it: devices and the plugin's own host threads, with the programs that ran.
fn options() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    ProfileOptions {
        host_tracer_level: 2,
        device_tracer_level: 1,
        version: 1,
        enable_hlo_proto: true,
        start_timestamp_ns: now.map_or(0, |now| now.as_nanos() as u64),
    }
    .encode_to_vec()
}

/// The part of `profiler_options.proto` that says so.
#[derive(Clone, PartialEq, prost::Message)]
struct ProfileOptions {
    #[prost(uint32, tag = "2")]
    host_tracer_level: u32,
    #[prost(uint32, tag = "3")]
    device_tracer_level: u32,
    #[prost(uint32, tag = "5")]
    version: u32,
    #[prost(bool, tag = "7")]
    enable_hlo_proto: bool,
    #[prost(uint64, tag = "8")]
    start_timestamp_ns: u64,
}

/// The profiler's functions in the plugin's table of extensions, if there are any.
fn functions(api: &Api) -> Option<Functions> {
    let extension = extension::find(&api.table, PJRT_Extension_Type_Profiler)?;
    let extension = extension.cast::<Extension>();
    // SAFETY: every extension begins with its base, which lives as long as the plugin.
    let size = unsafe { (*extension).base.struct_size };
    if size < offset_of!(Extension, functions) + size_of::<*const Functions>() {
        return None;
    }
    // SAFETY: the extension has this field, by its size; null or a table that lives as long as the plugin.
    let theirs = unsafe { (*extension).functions };
    if theirs.is_null() {
        return None;
    }
    let mut ours = Functions::default();
    // SAFETY: every table begins with its size.
    let size = unsafe { (&raw const (*theirs).struct_size).read() };
    let size = size.min(size_of::<Functions>());
    // SAFETY: the plugin's table has `struct_size` bytes, ours at least `size`, and zero means no function.
    unsafe { ptr::copy_nonoverlapping(theirs.cast::<u8>(), (&raw mut ours).cast(), size) };
    Some(ours)
}

impl Functions {
    /// Calls `function`, which is called `name`, with the struct that belongs to it.
    fn call<A>(&self, name: &'static str, function: Function<A>, args: &mut A) -> Result<()> {
        let function = function.ok_or(PjrtError::MissingFunction(name))?;
        // SAFETY: the struct's type says that it is this function's, its size is set, and every pointer in it is valid
        // for the call.
        let error = unsafe { function(args) };
        if error.is_null() {
            return Ok(());
        }
        let message = self.message(error);
        let mut destroyed = DestroyError {
            struct_size: size_of::<DestroyError>(),
            private: ptr::null_mut(),
            error,
        };
        if let Some(destroy) = self.error_destroy {
            // SAFETY: the error is live, and nobody names it afterwards.
            unsafe { destroy(&mut destroyed) };
        }
        Err(PjrtError::Call {
            function: name,
            message,
        })
    }

    /// The error's text, on one line.
    fn message(&self, error: *mut c_void) -> String {
        let Some(function) = self.error_message else {
            return "the plugin gives no text for its profiler's errors".to_owned();
        };
        let mut args = ErrorMessage {
            struct_size: size_of::<ErrorMessage>(),
            private: ptr::null_mut(),
            error,
            message: ptr::null(),
            message_size: 0,
        };
        // SAFETY: the error is live; the text that the call returns lives as long as the error.
        let message = unsafe {
            function(&mut args);
            text(args.message, args.message_size)
        };
        let lines = message.lines().map(str::trim);
        lines.collect::<Vec<_>>().join(" ")
    }
}
