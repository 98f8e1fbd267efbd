//! The devices of a plugin, of this process alone or as its part of those of several.

use std::path::Path;
use std::sync::Arc;

use cpu_kernels::Isa;
use pjrt::{KeyValueStore, PjrtError, Value};

use crate::device::coordinator::{self, Group};
use crate::device::plugin::{self, PluginDevices};
use crate::device::plugin_kind::{self, PluginKind};
use crate::device::processes::Processes;
use crate::device::{Device, DeviceError, DeviceKind, flags, hardware, runtime, start_plugin};
use crate::system::{proc, text};

impl Device {
    /// Loads a plugin that the user named. One that is neither for a TPU nor for a GPU may be for the
    /// CPU, and is asked for `cpus` devices.
    pub(super) fn load_named(
        group: Group,
        kind: &PluginKind,
        path: &Path,
        cpus: usize,
    ) -> Result<Self, DeviceError> {
        if let PluginKind::Cpu | PluginKind::Named(_) = kind {
            runtime::divide_cpu(cpus);
        }
        Self::load(group, kind, path, cpus)
    }

    pub(super) fn load(
        group: Group,
        kind: &PluginKind,
        path: &Path,
        cpus: usize,
    ) -> Result<Self, DeviceError> {
        hardware::check_libtpu_may_load(kind)?;
        if *kind == PluginKind::Cpu {
            runtime::silence_cpu();
        }
        flags::check_plugin(kind, path)?;
        let options = kind.options(cpus);
        let devices = match group.is_joined_for(kind) {
            true => Self::open_part(group, path, options)?,
            false => {
                let devices = Self::open_plugin(path, &options, None)?;
                devices.check_shares()?;
                devices
            }
        };
        let kind = match devices.platform.to_lowercase().as_str() {
            "tpu" => DeviceKind::Tpu,
            "cuda" | "rocm" | "gpu" => DeviceKind::Gpu,
            platform if plugin::is_cpu(platform) => {
                Self::kind_of_cpu(path, || devices.take_kernels())?
            }
            _ => DeviceKind::Other,
        };
        Ok(Self::new(Box::new(devices), kind))
    }

    fn open_plugin(
        path: &Path,
        options: &[(&str, Value)],
        store: Option<Arc<dyn KeyValueStore>>,
    ) -> Result<PluginDevices, DeviceError> {
        start_plugin(path, || {
            PluginDevices::open(path, options, store).map_err(|error| error.to_string())
        })
    }

    /// Meets the other processes, and opens this one's part of all devices. From the moment that they have met, what goes
    /// wrong in one of them ends all.
    fn open_part(
        group: Group,
        path: &Path,
        mut options: Vec<(&'static str, Value)>,
    ) -> Result<PluginDevices, DeviceError> {
        // The others shall not wait for a process that will not come.
        start_plugin(path, || Ok(()))?;
        let visible = std::env::var(plugin_kind::VISIBLE_GPUS).ok();
        let visible = visible.as_deref();
        let gpus = hardware::gpus_seen(&proc::kernel_id(), Path::new("/"), visible);
        let patience = coordinator::patience(coordinator::UNTIL_ALL_START)?;
        let joined = coordinator::join(group.processes, group.place()?, &gpus, patience)?;
        let Processes { index, count, .. } = *group.processes;
        options.extend(PluginKind::options_among(
            (index, count),
            joined.here,
            visible,
        ));
        // Before all have met: the others still wait, and hear what one of them finds.
        let devices = joined.open(|store| -> Result<_, DeviceError> {
            let devices = Self::open_plugin(path, &options, Some(store))?;
            devices.check_shares()?;
            Ok(devices)
        })?;
        joined.meet()?;
        joined.watch();
        Ok(devices)
    }

    /// What kind of CPU the plugin at `path` has: makes the kernels known to it by `take_kernels`, if it takes them.
    pub fn kind_of_cpu(
        path: &Path,
        take_kernels: impl FnOnce() -> Result<(), PjrtError>,
    ) -> Result<DeviceKind, DeviceError> {
        Isa::chosen()?;
        if !cpu_kernels::supported() {
            return Ok(DeviceKind::CpuPlugin);
        }
        match take_kernels() {
            Ok(()) => Ok(DeviceKind::CpuPluginWithKernels),
            Err(reason) => {
                log::info!(
                    "the plugin {} does not run the program's kernels ({reason}); XLA's own operations take their place, \
                     which are slower",
                    text::shown(path)
                );
                Ok(DeviceKind::CpuPlugin)
            }
        }
    }
}
