//! The PJRT C API: load a plugin, open its devices, compile for them or for devices that are not there, and run.
//!
//! This crate is the fence around the interface: all unsafe code that concerns it is here, and what comes out is
//! values and errors. Nothing that a plugin answers makes it panic.
//!
//! ```text
//!  file ─► plugin ─┬─► topology (chips that need not be there) ──────────► executable ─► memory, cost, program,
//!                  │                                                         ▲            bytes
//!                  └─► client (devices of this machine) ─┬─► loaded ─────────┘                │
//!                                                        │   executable ◄──── load ───────────┘
//!                                                        │       │ run
//!                                                        └─► buffer ─► values, events
//!  api: one call for every function: sets the struct's size, turns an error into a PjrtError
//! ```

mod api;
mod buffer;
mod client;
mod device;
mod element;
mod error;
mod event;
mod executable;
mod extension;
mod loaded;
mod options;
mod plugin;
mod profiler;
mod program;
mod topology;
mod value;

pub use buffer::Buffer;
pub use client::Client;
pub use device::{Device, DeviceMemory};
pub use element::{Element, ElementType};
pub use error::PjrtError;
pub use event::Event;
pub use executable::{Executable, Memory};
pub use loaded::LoadedExecutable;
pub use options::{compile_options, compile_options_for};
pub use plugin::{Plugin, check};
pub use profiler::Recording;
pub use program::Program;
pub use topology::Topology;
pub use value::Value;

#[allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    reason = "generated from the C header, which has more than this crate uses"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// Keeps libtpu from what it would do for a run: ask the cloud's metadata server about the machine
/// (for minutes, where there is none), and claim the machine's TPU for this process.
///
/// Call it before libtpu is loaded and before other threads start.
pub fn keep_libtpu_offline() {
    for (name, value) in [
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        // Any valid type will do; without one libtpu prints a warning. The topology decides.
        ("TPU_ACCELERATOR_TYPE", "v5litepod-8"),
        // Errors come back as values.
        ("TPU_MIN_LOG_LEVEL", "3"),
    ] {
        // SAFETY: the only other thread of the process waits for signals and reads no variables.
        unsafe { std::env::set_var(name, value) };
    }
}
