//! Devices behind a plugin, whatever they are.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use pjrt::{Buffer, Client, KeyValueStore, LoadedExecutable, PjrtError, Plugin, Program, Value};

use crate::device::backend::{Backend, DeviceArray, Executable, Values, boxed, own};
use crate::device::error::DeviceError;
use crate::device::identity;
use crate::device::saved_executable::Compiler;
use crate::system::sha256;

/// The devices of a plugin.
pub struct PluginDevices {
    plugin: Plugin,
    client: Client,
    /// Those that this process can use.
    devices: Vec<pjrt::Device>,
    /// The numbers of all devices, those of one process after those of another, and who this process is.
    all: Vec<i32>,
    processes: (usize, usize),
    kind: String,
    pub platform: String,
    /// What all compiled programs depend on ([`Backend::identity`]); none where the plugin has no version.
    identity: Option<Vec<String>>,
    /// What it says about itself to files of compiled programs ([`Backend::compiler`]).
    compiler: Option<Compiler>,
}

impl PluginDevices {
    /// Starts the plugin at `path` and opens its devices with `options` of its own; through `store` it finds those of
    /// other processes, if there are any.
    pub fn open(
        path: &Path,
        options: &[(&str, Value)],
        store: Option<Arc<dyn KeyValueStore>>,
    ) -> Result<Self, PjrtError> {
        let plugin = Plugin::load(path)?;
        let client = match store {
            Some(store) => plugin.client_with_store(options, store)?,
            None => plugin.client(options)?,
        };
        let mut devices = client.addressable_devices()?;
        let mut numbers = Vec::new();
        for device in client.devices()? {
            numbers.push((device.process()?, device.id()?));
        }
        let own = match devices.first() {
            Some(device) => device.process()?,
            None => 0,
        };
        let (all, processes) = by_process(numbers, own);
        if processes.1 > 1 {
            sort_by_id(&mut devices)?;
        }
        let kinds = devices.iter().map(pjrt::Device::kind);
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let platform = client.platform_name()?;
        let version = client.platform_version()?;
        let compiler = version.as_ref().map(|version| {
            let kind = kinds.first().cloned().unwrap_or_default();
            Compiler::new(path, version, plugin.api_version(), kind, is_cpu(&platform))
        });
        let identity = version.map(|version| {
            let mut identity = identity::of(path);
            identity.extend([
                version,
                format!("{:?} {kinds:?}", plugin.api_version()),
                format!("{options:?}"),
            ]);
            identity
        });
        Ok(Self {
            platform,
            kind: kinds.into_iter().next().unwrap_or_default(),
            identity,
            compiler,
            plugin,
            client,
            devices,
            all,
            processes,
        })
    }

    /// Refuses devices of which processes have different numbers: each takes the same share of a batch.
    pub fn check_shares(&self) -> Result<(), DeviceError> {
        let (own, there, processes) = (self.devices.len(), self.all.len(), self.processes.1);
        match processes == 1 || own * processes == there {
            true => Ok(()),
            false => Err(DeviceError::Uneven {
                processes,
                there,
                own,
            }),
        }
    }

    /// [`take_kernels`] of the plugin.
    pub fn take_kernels(&self) -> Result<(), PjrtError> {
        take_kernels(&self.plugin)
    }

    /// The compile options of a program on the first `replicas` devices.
    fn options(&self, replicas: usize) -> Result<Vec<u8>> {
        if self.processes.1 > 1 {
            return Ok(pjrt::compile_options_for(&self.all));
        }
        let devices = (0..replicas).map(|number| Ok(self.device(number)?.id()?));
        Ok(pjrt::compile_options_for(
            &devices.collect::<Result<Vec<_>>>()?,
        ))
    }

    fn device(&self, number: usize) -> Result<&pjrt::Device> {
        let there = self.devices.len();
        let device = self.devices.get(number);
        device.with_context(|| format!("there is no device {number}, only {there}"))
    }
}

impl Backend for PluginDevices {
    fn device_count(&self) -> usize {
        self.devices.len()
    }

    fn processes(&self) -> (usize, usize) {
        self.processes
    }

    fn device_kind(&self) -> &str {
        &self.kind
    }

    fn report(&self) -> Result<Vec<String>> {
        let (major, minor) = self.plugin.api_version();
        let mut lines = vec![format!("PJRT C API {major}.{minor}, extensions: ")];
        lines[0] += &match self.plugin.extensions() {
            names if names.is_empty() => "none".to_owned(),
            names => names.join(", "),
        };
        for device in &self.devices {
            lines.push(device_line(device)?);
        }
        Ok(lines)
    }

    fn compile(&self, hlo: &[u8], replicas: usize) -> Result<Box<dyn Executable>> {
        let options = self.options(replicas)?;
        let executable = self.client.compile(Program::Hlo(hlo), &options)?;
        Ok(Box::new(executable))
    }

    fn identity(&self, replicas: usize) -> Option<Vec<String>> {
        if self.processes.1 > 1 {
            // What is compiled for several hosts may be another program on each.
            return None;
        }
        let mut identity = self.identity.clone()?;
        // They say which devices. Where they cannot be made, compiling says why.
        let options = self.options(replicas).ok()?;
        identity.push(sha256::sum(&options));
        Some(identity)
    }

    fn load(&self, executable: &[u8], replicas: usize) -> Result<Box<dyn Executable>> {
        let options = self.options(replicas)?;
        let executable = self.client.load(executable, Some(&options))?;
        Ok(Box::new(executable))
    }

    fn record(&self) -> Result<pjrt::Recording> {
        Ok(self.plugin.record()?)
    }

    fn compiler(&self) -> Option<&Compiler> {
        self.compiler.as_ref()
    }

    fn upload(
        &self,
        values: Values<'_>,
        dims: &[usize],
        device: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        let (client, device) = (&self.client, self.device(device)?);
        // The plugin reads a batch while it is copied: it then makes its own way to the device, beside the step
        // before, and the host may make the next batch in its place. The state stays where it is until it was read.
        let array = match values {
            Values::F32(values) => client.upload(values, dims, device),
            Values::I32(values) => client.upload(values, dims, device),
            Values::Bf16(values) => client.upload(values, dims, device),
            Values::Shared(values) => client.upload_shared(Arc::clone(&values), dims, device),
        };
        Ok(Box::new(array?))
    }
}

/// The ids of devices, given as (process, id), with those of one process together; and which of how many processes
/// `own` is. A TPU slice numbers devices by their place in it, so that a process has some here and some there.
fn by_process(mut devices: Vec<(i32, i32)>, own: i32) -> (Vec<i32>, (usize, usize)) {
    devices.sort_unstable();
    let mut processes: Vec<i32> = devices.iter().map(|(process, _)| *process).collect();
    processes.dedup();
    let index = processes.iter().position(|process| *process == own);
    let ids = devices.into_iter().map(|(_, id)| id).collect();
    (ids, (index.unwrap_or(0), processes.len().max(1)))
}

fn sort_by_id(devices: &mut Vec<pjrt::Device>) -> Result<(), PjrtError> {
    let mut numbered = Vec::new();
    for device in devices.drain(..) {
        numbered.push((device.id()?, device));
    }
    numbered.sort_by_key(|(id, _)| *id);
    devices.extend(numbered.into_iter().map(|(_, device)| device));
    Ok(())
}

/// Makes the program's CPU kernels known to `plugin`.
///
/// # Errors
/// A plugin that takes none; what it says against them.
pub fn take_kernels(plugin: &Plugin) -> Result<(), PjrtError> {
    for (name, handler) in cpu_kernels::handlers() {
        // SAFETY: the kernels' crate says that it is a handler of XLA's FFI, which stays there.
        unsafe { plugin.register_handler(name, cpu_kernels::PLATFORM, handler)? };
    }
    Ok(())
}

/// Whether `platform`, as a plugin names it, is this machine's processor.
pub fn is_cpu(platform: &str) -> bool {
    ["cpu", "host"].contains(&platform.to_lowercase().as_str())
}

/// A device with what the plugin says about it.
fn device_line(device: &pjrt::Device) -> Result<String, PjrtError> {
    let mut line = device.name()?;
    if let Some(memory) = device.memory()? {
        let mib = |bytes: i64| bytes >> 20;
        line += &format!(", memory: {} MiB in use", mib(memory.in_use));
        if let Some(limit) = memory.limit {
            line += &format!(" of {} MiB", mib(limit));
        }
        if let Some(peak) = memory.peak {
            line += &format!(", {} MiB at its peak", mib(peak));
        }
    }
    for (name, value) in device.attributes()? {
        line += &format!(", {name}: {}", text(&value));
    }
    Ok(line)
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Ints(numbers) => format!("{numbers:?}"),
        Value::Float(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
    }
}

impl Executable for LoadedExecutable {
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let outputs = LoadedExecutable::run(self, &own::<Buffer>(inputs)?)?;
        Ok(boxed(outputs))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.executable()?.serialize()?)
    }
}

impl DeviceArray for Buffer {
    fn wait(&self) -> Result<()> {
        Ok(self.ready()?.wait()?)
    }

    fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(self.download()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_grouped_by_their_process() {
        // The first two hosts of v5e:4x4, as libtpu numbers their chips.
        let slice = [0, 1, 4, 5].map(|id| (0, id)).into_iter();
        let slice: Vec<_> = slice.chain([2, 3, 6, 7].map(|id| (1, id))).collect();
        let mut shuffled = slice.clone();
        shuffled.reverse();
        for devices in [slice, shuffled] {
            let (ids, processes) = by_process(devices, 1);
            assert_eq!(ids, [0, 1, 4, 5, 2, 3, 6, 7]);
            assert_eq!(processes, (1, 2));
        }
        assert_eq!(by_process(vec![(0, 0), (0, 1)], 0), (vec![0, 1], (0, 1)));
    }
}
