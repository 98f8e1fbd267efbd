//! Devices behind a plugin, whatever they are.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use pjrt::{Buffer, Client, LoadedExecutable, PjrtError, Plugin, Program, Value};

use crate::device::backend::{Backend, DeviceArray, Executable, Hlo, Values, boxed, own};
use crate::device::flags::XLA_FLAGS;
use crate::system::files::{Disk, Storage};
use crate::system::{proc, sha256};

/// The devices of a plugin.
pub struct PluginDevices {
    plugin: Plugin,
    client: Client,
    /// Those that this process can use.
    devices: Vec<pjrt::Device>,
    kind: String,
    pub platform: String,
    /// What all compiled programs depend on ([`Backend::identity`]); none where the plugin has no version.
    identity: Option<Vec<String>>,
}

/// Variables that change what plugins compile.
const VARIABLES: [&str; 4] = [
    XLA_FLAGS,
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_XLA_FLAGS",
];
/// Longer files of flags are not read.
const FLAG_FILE_LIMIT: u64 = 1 << 20;

impl PluginDevices {
    /// Starts the plugin at `path` and opens its devices with `options` of its own.
    pub fn open(path: &Path, options: &[(&str, Value)]) -> Result<Self, PjrtError> {
        let plugin = Plugin::load(path)?;
        let client = plugin.client(options)?;
        let devices = client.addressable_devices()?;
        let kinds = devices.iter().map(pjrt::Device::kind);
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let identity = client.platform_version()?.map(|version| {
            let mut identity = vec![
                file_identity(path),
                version,
                format!("{:?} {kinds:?}", plugin.api_version()),
                format!("{options:?}"),
                proc::cpu_features().unwrap_or_default(),
                // Code is split for as many threads.
                proc::allowed_processors().unwrap_or_default(),
            ];
            let values = VARIABLES.map(|name| env::var(name).unwrap_or_default());
            identity.extend(values.iter().map(|value| with_flag_file(value)));
            identity
        });
        Ok(Self {
            platform: client.platform_name()?,
            kind: kinds.into_iter().next().unwrap_or_default(),
            identity,
            plugin,
            client,
            devices,
        })
    }

    /// Makes the program's CPU kernels known to the plugin.
    ///
    /// # Errors
    /// A plugin that takes none; what it says against them.
    pub fn take_kernels(&self) -> Result<(), PjrtError> {
        for (name, handler) in cpu_kernels::handlers() {
            // SAFETY: the kernels' crate says that it is a handler of XLA's FFI, which stays there.
            unsafe {
                self.plugin
                    .register_handler(name, cpu_kernels::PLATFORM, handler)?;
            }
        }
        Ok(())
    }

    /// The compile options of a program on the first `replicas` devices.
    fn options(&self, replicas: usize) -> Result<Vec<u8>> {
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

    fn compile(&self, hlo: Hlo, replicas: usize) -> Result<Box<dyn Executable>> {
        let options = self.options(replicas)?;
        let hlo = hlo.to_bytes()?;
        let executable = self.client.compile(Program::Hlo(&hlo), &options)?;
        Ok(Box::new(executable))
    }

    fn identity(&self, replicas: usize) -> Option<Vec<String>> {
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

/// Which file the plugin is: its place, and what changes when it is replaced.
fn file_identity(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let facts = path.metadata().ok();
    let facts = facts.map(|facts| {
        [
            facts.len() as i64,
            facts.ino() as i64,
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
        ]
    });
    format!("{path:?} {facts:?}")
}

/// The `value` of a variable of flags. XLA takes one that does not begin with a dash for the file that the flags are
/// in, whose content then belongs to it.
fn with_flag_file(value: &str) -> String {
    if value.is_empty() || value.trim_start().starts_with('-') {
        return value.to_owned();
    }
    match Disk.read(Path::new(value), FLAG_FILE_LIMIT) {
        Ok(content) => format!("{value} {}", sha256::sum(&content)),
        Err(_) => value.to_owned(),
    }
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
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_flags_counts_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flags");
        let value = file.to_str().unwrap();
        let identity = |content: &str| {
            fs::write(&file, content).unwrap();
            with_flag_file(value)
        };
        assert_ne!(identity("--xla_a=1"), identity("--xla_a=2"));
        assert_eq!(identity("--xla_a=1"), identity("--xla_a=1"));
        for value in ["", " --xla_a=1", "0", "/no/such/file"] {
            assert_eq!(with_flag_file(value), value);
        }
    }

    #[test]
    fn a_plugin_file_that_was_replaced_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (file, new) = (folder.path().join("a.so"), folder.path().join("new"));
        fs::write(&file, "one").unwrap();
        let before = file_identity(&file);
        assert_eq!(file_identity(&file), before);
        // Of the same size and time.
        fs::write(&new, "two").unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        let opened = fs::File::options().write(true).open(&new).unwrap();
        opened.set_modified(time).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_ne!(file_identity(&file), before);
    }
}
