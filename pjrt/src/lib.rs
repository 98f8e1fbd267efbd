//! The PJRT C API, as far as compiling ahead of time needs it: load a plugin, describe a topology
//! without its hardware, compile for it, ask about the result.
//!
//! The `xla` crate can only compile for a client, and a client wants the devices. This crate is the
//! fence around the interface: all unsafe code that concerns it is here.
//!
//! ```text
//!  file ─► plugin ─┬─► topology (chips that need not be there) ─┐
//!                  └─► client (devices of this machine) ────────┴─► executable ─► memory, cost, program
//!  api: one call for every function: sets the struct's size, turns an error into a PjrtError
//! ```

mod api;
mod client;
mod error;
mod executable;
mod options;
mod plugin;
mod topology;

pub use client::Client;
pub use error::PjrtError;
pub use executable::{Executable, Memory};
pub use options::compile_options;
pub use plugin::{Plugin, check};
pub use topology::Topology;

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
