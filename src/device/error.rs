//! Why a device cannot be used.

use std::path::PathBuf;

use crate::device::coordinator::CoordinatorError;
use crate::device::plugin_file::PluginFileError;
use crate::device::seconds::SecondsError;
use crate::device::threads::TooFewThreads;

/// A device that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "no {device} on this machine: looked for {looked_for}. \
         Run on a machine that has one, or with --device auto"
    )]
    NoHardware {
        device: &'static str,
        looked_for: &'static str,
    },
    #[error(
        "the machine has a {device} ({found}), but no PJRT plugin for it works; tried: {tried}. \
         Run `./setup {setup}` or name the plugin with --plugin"
    )]
    NoPlugin {
        device: &'static str,
        found: String,
        tried: String,
        setup: &'static str,
    },
    #[error(
        "there is no PJRT plugin of a {device} in any of: {tried}. \
         Run `./setup {setup}` or name the plugin with --plugin"
    )]
    NoCompiler {
        device: &'static str,
        tried: String,
        setup: &'static str,
    },
    #[error(
        "the PJRT plugin {path} cannot be loaded: {reason}; check --plugin, TPU_LIBRARY_PATH and \
         XLA_PJRT_PLUGIN"
    )]
    PluginFile {
        path: PathBuf,
        reason: PluginFileError,
    },
    #[error("the PJRT plugin {path} cannot be used: {reason}")]
    Plugin { path: PathBuf, reason: String },
    #[error(
        "the TPU is held by another process: {holders}. Wait for it or end it; a TPU serves one process \
         at a time"
    )]
    Held { holders: String },
    #[error(
        "XLA_PJRT_PLUGIN is `{value}`; expected <type>:<path>, for example cuda:/opt/plugin.so"
    )]
    PluginVariable { value: String },
    #[error(
        "XLA_FLAGS is `{flags}`, and {by} does not take it: {complaint}. Correct or unset it; flags for \
         libtpu alone go into LIBTPU_INIT_ARGS"
    )]
    Flags {
        flags: String,
        by: String,
        complaint: String,
    },
    #[error(transparent)]
    Threads(#[from] TooFewThreads),
    #[error(transparent)]
    Isa(#[from] cpu_kernels::IsaError),
    #[error(transparent)]
    Kernels(#[from] cpu_kernels::RegisterError),
    #[error("the XLA runtime cannot open the CPU: {reason}")]
    Cpu { reason: String },
    #[error(
        "--replicas {asked}: expected at most {there}, the number of devices of {device}. On a CPU, \
         --xla_force_host_platform_device_count in XLA_FLAGS sets the number"
    )]
    TooFew {
        asked: usize,
        there: usize,
        device: String,
    },
    #[error(
        "there are {count} processes ({said_by}), and the library that joins CPUs of several processes is not there. Run \
         `./setup mpi`, which needs Open MPI or MPICH"
    )]
    NoMpi { count: usize, said_by: String },
    #[error(
        "the library for MPI, {path}, cannot be used: {reason}. Run `./setup mpi` again, with the MPI whose mpirun or srun \
         starts the processes"
    )]
    Mpi { path: PathBuf, reason: String },
    #[error(
        "this is {said} ({said_by}), but by MPI it is {mpi}. Start the processes with mpirun or srun of the MPI that \
         `./setup mpi` found"
    )]
    OtherMpi {
        said: String,
        said_by: String,
        mpi: String,
    },
    #[error(transparent)]
    Seconds(#[from] SecondsError),
    #[error(
        "there are {count} processes ({said_by}), and on {device} this program runs in one. Several processes share a run on \
         CPUs, with --device cpu, on GPUs, with --device gpu, and on the VMs of a TPU slice"
    )]
    OneProcess {
        device: String,
        count: usize,
        said_by: String,
    },
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error(
        "{processes} processes have {there} devices together, and this one has {own}; expected as many for each. Start as \
         many processes on each machine, with as many GPUs"
    )]
    Uneven {
        processes: usize,
        there: usize,
        own: usize,
    },
    #[error(
        "the devices are those of {hosts} hosts, and this command runs on one; only training runs on several. Take --device \
         cpu here"
    )]
    Slice { hosts: usize },
    #[error(
        "--replicas {asked}: {processes} processes have {there} devices together, and all of them take part; leave \
         --replicas out"
    )]
    Processes {
        asked: usize,
        processes: usize,
        there: usize,
    },
}
