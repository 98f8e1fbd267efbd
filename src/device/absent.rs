//! [`crate::device::embedded`] in a build without the XLA runtime, where the CPU is that of a plugin.

use std::error::Error;

use crate::device::plugin_kind::PluginKind;
use crate::device::{Device, DeviceError, plugins};

/// Opens the CPU plugin that the environment names or that is in one of the usual places, as `cpus` devices.
pub fn open(cpus: usize) -> Result<Device, DeviceError> {
    let path = plugins::find_compiler(PluginKind::Cpu)?;
    Device::load_named(&PluginKind::Cpu, &path, cpus)
}

/// Plugins have a log of their own, and read from the environment how much to say.
pub fn set_log_level(_: u8) {}

/// No error is of the XLA runtime.
pub fn xla_message(_: &(dyn Error + 'static)) -> Option<String> {
    None
}
