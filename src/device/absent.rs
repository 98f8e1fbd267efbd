//! [`crate::device::embedded`] in a build without the XLA runtime, where the CPU is that of a plugin.

use std::error::Error;

use crate::device::coordinator::Group;
use crate::device::plugin_kind::PluginKind;
use crate::device::processes::Processes;
use crate::device::{Device, DeviceError, plugins};

/// Opens the CPU plugin that the environment names or that is in one of the usual places, as `cpus` devices.
///
/// # Errors
/// There is none, it cannot be opened, or several processes would share their CPUs.
pub fn open(processes: &Processes, cpus: usize) -> Result<Device, DeviceError> {
    if processes.share_cpus() {
        return Err(DeviceError::Cpu {
            reason: "several processes share their CPUs only in a build with the XLA runtime"
                .to_owned(),
        });
    }
    let path = plugins::find_compiler(PluginKind::Cpu)?;
    Device::load_named(Group::of(processes), &PluginKind::Cpu, &path, cpus)
}

/// Plugins have a log of their own, and read from the environment how much to say.
pub fn set_log_level(_: u8) {}

/// No error is of the XLA runtime.
pub fn xla_message(_: &(dyn Error + 'static)) -> Option<String> {
    None
}
