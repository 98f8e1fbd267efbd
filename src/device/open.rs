//! From what a user asks for to devices that work: the kind that was named, or the best that is there.

use std::path::Path;

use crate::device::coordinator::{self, Group};
use crate::device::plugin_kind::PluginKind;
use crate::device::processes::{Launcher, Processes};
use crate::device::replicas::ReplicaChoice;
use crate::device::{
    Device, DeviceChoice, DeviceError, DeviceKind, embedded, hardware, plugin_file, plugin_kind,
    plugins, threads,
};

impl Device {
    /// Opens `choice`, or the plugin at `plugin` whatever the choice, with as many devices as
    /// `replicas` says: by default all TPUs or GPUs, and one CPU.
    pub fn open(
        choice: DeviceChoice,
        plugin: Option<&Path>,
        replicas: Option<ReplicaChoice>,
    ) -> Result<Self, DeviceError> {
        let alone = Processes::alone();
        let device = Self::open_among(Group::of(&alone), choice, plugin, replicas)?;
        match device.processes() {
            1 => Ok(device),
            hosts => Err(DeviceError::Slice { hosts }),
        }
    }

    /// Whether the plugin has joined this process with others by itself, so that nothing watches them yet.
    pub fn is_joined_by_plugin(&self) -> bool {
        self.processes() > 1 && self.kind != DeviceKind::Cpu && !coordinator::is_watching()
    }

    /// Whether this choice may open devices of several processes which no launcher has told of each other, so that only the
    /// devices say which process this is: libtpu joins the hosts of a slice by itself, and an unknown plugin may do so too.
    pub fn may_join_by_itself(choice: DeviceChoice, plugin: Option<&Path>) -> bool {
        let kind = match (plugin, choice) {
            (Some(path), _) => plugin_kind::kind_of(path),
            (None, DeviceChoice::Tpu) => PluginKind::Tpu,
            (None, DeviceChoice::Gpu) => PluginKind::Gpu,
            (None, DeviceChoice::Cpu) => PluginKind::Cpu,
            (None, DeviceChoice::Auto) => match plugins::in_variable() {
                Ok(Some((kind, _))) => kind,
                _ if hardware::check(&PluginKind::Tpu, Path::new("/")).is_ok() => PluginKind::Tpu,
                _ => PluginKind::Cpu,
            },
        };
        matches!(kind, PluginKind::Tpu | PluginKind::Named(_))
    }

    /// [`Self::open`] as one of several processes, whose devices are all replicas of one program.
    pub fn open_among(
        group: Group,
        choice: DeviceChoice,
        plugin: Option<&Path>,
        replicas: Option<ReplicaChoice>,
    ) -> Result<Self, DeviceError> {
        let processes = group.processes;
        let cpus = replicas.and_then(ReplicaChoice::count).unwrap_or(1);
        threads::rehearse(cpus)?;
        let device = match (plugin, choice) {
            (Some(path), _) => Self::load_named(group, &plugin_kind::kind_of(path), path, cpus),
            (None, DeviceChoice::Tpu) => Self::open_accelerator(group, &PluginKind::Tpu),
            (None, DeviceChoice::Gpu) => {
                if group.is_joined_for(&PluginKind::Gpu) {
                    // Whether there is a GPU or not: what is missing is in the command.
                    group.meeting()?;
                }
                Self::open_accelerator(group, &PluginKind::Gpu)
            }
            (None, DeviceChoice::Cpu) => embedded::open(processes, cpus),
            (None, DeviceChoice::Auto) => Self::open_auto(group, cpus),
        }?;
        device.check_processes(processes)?;
        let replicas = device.replicas_of(replicas)?;
        Ok(Self { replicas, ..device })
    }

    /// Refuses several processes of which each would do the whole run by itself.
    fn check_processes(&self, processes: &Processes) -> Result<(), DeviceError> {
        // The VMs' variables are there whatever device is used.
        let asked = processes.launcher != Launcher::TpuVm && processes.count > 1;
        match asked && self.processes() == 1 {
            true => Err(DeviceError::OneProcess {
                device: self.kind.to_string(),
                count: processes.count,
                said_by: processes.source.clone(),
            }),
            false => Ok(()),
        }
    }

    fn replicas_of(&self, choice: Option<ReplicaChoice>) -> Result<usize, DeviceError> {
        let processes = self.processes();
        let there = self.backend.device_count() * processes;
        match choice.and_then(ReplicaChoice::count) {
            _ if processes == 1 => {}
            Some(asked) if asked != there => {
                return Err(DeviceError::Processes {
                    asked,
                    processes,
                    there,
                });
            }
            _ => return Ok(there),
        }
        let accelerator = matches!(self.kind, DeviceKind::Tpu | DeviceKind::Gpu);
        match choice.map(ReplicaChoice::count) {
            None if accelerator => Ok(there),
            None => Ok(1),
            Some(None) => Ok(there),
            Some(Some(asked)) if asked <= there => Ok(asked),
            Some(Some(asked)) => Err(DeviceError::TooFew {
                asked,
                there,
                device: self.description(),
            }),
        }
    }

    /// The plugin that the environment names, or else the first of TPU, GPU and CPU that opens.
    fn open_auto(group: Group, cpus: usize) -> Result<Self, DeviceError> {
        if let Some((kind, path)) = plugins::in_variable()? {
            let device = Self::load_named(group, &kind, &path, cpus)?;
            log::info!(
                "taking {}: {} names it",
                path.display(),
                plugins::PLUGIN_VARIABLE
            );
            return Ok(device);
        }
        let mut missing = Vec::new();
        for kind in [PluginKind::Tpu, PluginKind::Gpu] {
            let why_not = match Self::open_accelerator(group, &kind) {
                Ok(device) => {
                    missing.insert(0, format!("taking the {}", kind.device()));
                    log::info!("{}", missing.join("; "));
                    return Ok(device);
                }
                Err(DeviceError::NoHardware { device, .. }) => format!("no {device} here"),
                // The other processes have met this one, or wait for it: none takes another device.
                Err(reason @ DeviceError::Coordinator(_)) => return Err(reason),
                // The hardware is there: say what keeps it from being used.
                Err(reason) => reason.to_string(),
            };
            missing.push(why_not);
        }
        log::info!("taking the CPU; {}", missing.join("; "));
        embedded::open(group.processes, cpus)
    }

    /// The accelerator of `kind`, through the plugin that the environment names, or else the first
    /// file found that is a plugin.
    fn open_accelerator(group: Group, kind: &PluginKind) -> Result<Self, DeviceError> {
        let root = Path::new("/");
        hardware::check(kind, root)?;
        if let Some(path) = plugins::named(kind)? {
            return Self::load(group, kind, &path, 1);
        }
        let mut tried = Vec::new();
        for path in plugins::candidates(kind, root) {
            match plugin_file::check(&path) {
                Ok(()) => return Self::load(group, kind, &path, 1),
                Err(reason) => tried.push(format!("{} ({reason})", path.display())),
            }
        }
        Err(DeviceError::NoPlugin {
            device: kind.device(),
            found: hardware::signs(kind, root).join(", "),
            tried: tried.join(", "),
            setup: kind.setup().0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tpu_and_a_plugin_that_is_not_known_may_join_processes_by_themselves() {
        let may_join = Device::may_join_by_itself;
        assert!(may_join(DeviceChoice::Tpu, None));
        assert!(!may_join(DeviceChoice::Gpu, None));
        assert!(!may_join(DeviceChoice::Cpu, None));
        // A plugin counts, whatever the choice.
        let plugin = |name: &str| may_join(DeviceChoice::Cpu, Some(Path::new(name)));
        assert!(plugin("tpu/libtpu.so"));
        assert!(plugin("new_chip.so"));
        assert!(!plugin("cuda/xla_cuda_plugin.so"));
        assert!(!plugin("cpu/libpjrt_cpu.so"));
    }
}
