//! Opens the devices that a run computes on.
//!
//! ```text
//!  flags, threads (tried before XLA, which would end the process)
//!        │
//!  hardware ─► plugins ─► plugin_file ─► plugin ─────┐
//!  (there)     (found)    (checked)                  ├─► backend ─► Device: its replicas ─► model
//!  runtime (the CPU's settings) ─────────► embedded ─┤
//!  processes (who is who) ───────────────► mpi ──────┘
//!        └─► coordinator (GPUs of several processes meet) ─► plugin
//! ```
//!
//! A device that was asked for and is not there is an error; nothing falls back silently.

pub mod backend;
mod choice;
pub mod compile_cache;
pub mod coordinator;
#[cfg(feature = "trace")]
mod embedded;
#[cfg(not(feature = "trace"))]
#[path = "absent.rs"]
mod embedded;
mod entries;
mod error;
pub mod flags;
pub mod hardware;
#[cfg_attr(
    not(feature = "trace"),
    allow(
        dead_code,
        reason = "part of it is for MPI, which only the build with the XLA runtime has"
    )
)]
mod heartbeat;
mod identity;
pub mod leave;
mod load_plugin;
#[cfg_attr(
    not(feature = "trace"),
    allow(
        dead_code,
        reason = "only the build with the XLA runtime joins processes"
    )
)]
pub mod mpi;
mod open;
mod plugin;
pub mod plugin_file;
pub mod plugin_kind;
pub mod plugins;
pub mod processes;
mod programs;
pub mod replicas;
pub mod runtime;
pub mod saved_executable;
mod seconds;
mod start_plugin;
#[cfg(test)]
mod test_root;
pub mod threads;
mod tpu_holders;

use std::sync::Arc;

use anyhow::Result;

use crate::device::backend::{Backend, Collectives, DeviceArray, HostElement, Values};
use crate::device::compile_cache::CompileCache;
use crate::device::saved_executable::SavedExecutable;

pub use choice::{DeviceChoice, DeviceKind};
pub use embedded::xla_message;
pub use error::DeviceError;
pub use plugin::take_kernels;
pub use programs::{Compiled, Origin, Sought};
pub use start_plugin::{CRASH_EXIT_CODE, start_plugin};

/// One device or several of a kind, with what drives them.
pub struct Device {
    backend: Box<dyn Backend>,
    /// Which kind it turned out to be.
    pub kind: DeviceKind,
    /// Devices that share each batch: the first ones of the back end, or those of all processes.
    pub replicas: usize,
    /// Where compiled programs are kept, if they are.
    cache: Option<CompileCache>,
    /// Programs that were compiled elsewhere.
    saved: Vec<SavedExecutable>,
}

impl Device {
    fn new(backend: Box<dyn Backend>, kind: DeviceKind) -> Self {
        Self {
            backend,
            kind,
            replicas: 1,
            cache: None,
            saved: Vec::new(),
        }
    }

    /// How many processes share each batch.
    pub fn processes(&self) -> usize {
        self.backend.processes().1
    }

    /// The number of this process among them, from 0.
    pub fn process(&self) -> usize {
        self.backend.processes().0
    }

    /// What the other processes have cost this one so far; none where it is alone, or where the devices do not tell.
    pub fn collectives(&self) -> Option<Collectives> {
        self.backend.collectives()
    }

    /// Replicas on the devices of this process.
    pub fn own_replicas(&self) -> usize {
        self.replicas / self.processes()
    }

    /// Platform and kind of the first device, for example `cpu (2 cores)` or `TPU v5 lite`.
    pub fn description(&self) -> String {
        match self.kind {
            DeviceKind::Cpu | DeviceKind::CpuPlugin | DeviceKind::CpuPluginWithKernels => {
                let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
                format!("cpu ({cores} cores)")
            }
            _ => self.backend.device_kind().to_owned(),
        }
    }

    /// What there is to know about the devices and what drives them, a line each.
    pub fn report(&self) -> Result<Vec<String>> {
        self.backend.report()
    }

    /// Records what the devices do from now on.
    ///
    /// # Errors
    /// Devices that cannot tell.
    pub fn record(&self) -> Result<pjrt::Recording> {
        self.backend.record()
    }

    /// Copies `data`, row-major, to the device of `replica` as an array of dimensions `dims`. Returns once the host
    /// may reuse `data`.
    pub fn upload<T: HostElement>(
        &self,
        data: &[T],
        dims: &[usize],
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        self.backend.upload(T::values(data), dims, replica)
    }

    /// Copies `data` to the device of `replica` as an array of one dimension, possibly after this has returned.
    pub fn upload_shared(
        &self,
        data: Arc<Vec<f32>>,
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        let dims = [data.len()];
        self.backend.upload(Values::Shared(data), &dims, replica)
    }
}
