//! Opens the devices that a run computes on.
//!
//! ```text
//!  flags, threads (tried before XLA, which would end the process)
//!        │
//!  hardware ─► plugins ─► plugin_file ─► plugin ─────┐
//!  (there)     (found)    (checked)                  ├─► backend ─► Device: its replicas ─► model
//!  runtime (the CPU's settings) ─────────► embedded ─┘
//! ```
//!
//! A device that was asked for and is not there is an error; nothing falls back silently.

pub mod backend;
pub mod compile_cache;
mod embedded;
mod entries;
mod error;
pub mod flags;
pub mod hardware;
mod plugin;
pub mod plugin_file;
pub mod plugin_kind;
pub mod plugins;
pub mod replicas;
pub mod runtime;
#[cfg(test)]
mod test_root;
pub mod threads;
mod tpu_holders;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result as AnyResult;
use clap::ValueEnum;
use cpu_kernels::Isa;
use serde::{Deserialize, Serialize};

use crate::device::backend::{Backend, DeviceArray, Executable, Hlo, HostElement, Values};
use crate::device::compile_cache::CompileCache;
use crate::device::embedded::EmbeddedCpu;
use crate::device::plugin::PluginDevices;
use crate::device::plugin_kind::PluginKind;
use crate::device::replicas::ReplicaChoice;
use crate::system::sha256;
use crate::system::signals;
use crate::system::text;

/// Which device to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The best that is there
    Auto,
    Tpu,
    Gpu,
    Cpu,
}

pub use error::DeviceError;

/// One device or several of a kind, with what drives them.
pub struct Device {
    backend: Box<dyn Backend>,
    /// Which kind it turned out to be.
    pub kind: DeviceKind,
    /// Devices that share each batch: the first ones of the back end.
    pub replicas: usize,
    /// Where compiled programs are kept, if they are.
    cache: Option<CompileCache>,
}

/// A program that can run.
pub struct Compiled {
    pub executable: Box<dyn Executable>,
    /// How long it took to compile, if that was at an earlier time and it was only loaded now.
    pub earlier: Option<Duration>,
}

/// The kinds of device that the program treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    Tpu,
    Gpu,
    /// The CPU of the XLA runtime itself
    Cpu,
    /// A CPU behind a plugin that does not run the program's own kernels
    CpuPlugin,
    /// A CPU behind a plugin that runs them
    #[value(skip)]
    CpuPluginWithKernels,
    /// A plugin of another platform
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Tpu => "tpu",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::CpuPlugin | Self::CpuPluginWithKernels => "cpu-plugin",
            Self::Other => "other",
        })
    }
}

impl Device {
    /// Opens `choice`, or the plugin at `plugin` whatever the choice, with as many devices as
    /// `replicas` says: by default all TPUs or GPUs, and one CPU.
    pub fn open(
        choice: DeviceChoice,
        plugin: Option<&Path>,
        replicas: Option<ReplicaChoice>,
    ) -> Result<Self, DeviceError> {
        let cpus = replicas.and_then(ReplicaChoice::count).unwrap_or(1);
        threads::rehearse(cpus)?;
        let device = match (plugin, choice) {
            (Some(path), _) => Self::load_named(&plugin_kind::kind_of(path), path, cpus),
            (None, DeviceChoice::Tpu) => Self::open_accelerator(&PluginKind::Tpu),
            (None, DeviceChoice::Gpu) => Self::open_accelerator(&PluginKind::Gpu),
            (None, DeviceChoice::Cpu) => Self::open_cpu(cpus),
            (None, DeviceChoice::Auto) => Self::open_auto(cpus),
        }?;
        let replicas = device.replicas_of(replicas)?;
        Ok(Self { replicas, ..device })
    }

    fn replicas_of(&self, choice: Option<ReplicaChoice>) -> Result<usize, DeviceError> {
        let there = self.backend.device_count();
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
    fn open_auto(cpus: usize) -> Result<Self, DeviceError> {
        if let Some((kind, path)) = plugins::in_variable()? {
            let device = Self::load_named(&kind, &path, cpus)?;
            log::info!(
                "taking {}: {} names it",
                path.display(),
                plugins::PLUGIN_VARIABLE
            );
            return Ok(device);
        }
        let mut missing = Vec::new();
        for kind in [PluginKind::Tpu, PluginKind::Gpu] {
            let why_not = match Self::open_accelerator(&kind) {
                Ok(device) => {
                    missing.insert(0, format!("taking the {}", kind.device()));
                    log::info!("{}", missing.join("; "));
                    return Ok(device);
                }
                Err(DeviceError::NoHardware { device, .. }) => format!("no {device} here"),
                // The hardware is there: say what keeps it from being used.
                Err(reason) => reason.to_string(),
            };
            missing.push(why_not);
        }
        log::info!("taking the CPU; {}", missing.join("; "));
        Self::open_cpu(cpus)
    }

    /// The accelerator of `kind`, through the plugin that the environment names, or else the first
    /// file found that is a plugin.
    fn open_accelerator(kind: &PluginKind) -> Result<Self, DeviceError> {
        let root = Path::new("/");
        hardware::check(kind, root)?;
        if let Some(path) = plugins::named(kind)? {
            return Self::load(kind, &path, 1);
        }
        let mut tried = Vec::new();
        for path in plugins::candidates(kind, root) {
            match plugin_file::check(&path) {
                Ok(()) => return Self::load(kind, &path, 1),
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

    /// Opens the CPU as `cpus` devices.
    fn open_cpu(cpus: usize) -> Result<Self, DeviceError> {
        Isa::chosen()?;
        flags::check_cpu()?;
        runtime::divide_cpu(cpus);
        cpu_kernels::register()?;
        let cpu = EmbeddedCpu::open().map_err(|error| DeviceError::Cpu {
            reason: first_line(&error),
        })?;
        Ok(Self {
            backend: Box::new(cpu),
            kind: DeviceKind::Cpu,
            replicas: 1,
            cache: None,
        })
    }

    /// Loads a plugin that the user named. One that is neither for a TPU nor for a GPU may be for the
    /// CPU, and is asked for `cpus` devices.
    fn load_named(kind: &PluginKind, path: &Path, cpus: usize) -> Result<Self, DeviceError> {
        if let PluginKind::Cpu | PluginKind::Named(_) = kind {
            runtime::divide_cpu(cpus);
        }
        Self::load(kind, path, cpus)
    }

    fn load(kind: &PluginKind, path: &Path, cpus: usize) -> Result<Self, DeviceError> {
        hardware::check_libtpu_may_load(kind)?;
        if *kind == PluginKind::Cpu {
            runtime::silence_cpu_plugin();
        }
        flags::check_plugin(kind, path)?;
        let options = kind.options(cpus);
        let devices = start_plugin(path, || {
            PluginDevices::open(path, &options).map_err(|error| error.to_string())
        })?;
        let kind = match devices.platform.to_lowercase().as_str() {
            "tpu" => DeviceKind::Tpu,
            "cuda" | "rocm" | "gpu" => DeviceKind::Gpu,
            "cpu" | "host" => Self::kind_of_cpu(path, &devices)?,
            _ => DeviceKind::Other,
        };
        Ok(Self {
            backend: Box::new(devices),
            kind,
            replicas: 1,
            cache: None,
        })
    }

    /// What kind of CPU the `devices` of the plugin at `path` are: makes the kernels known to it, if it takes them.
    fn kind_of_cpu(path: &Path, devices: &PluginDevices) -> Result<DeviceKind, DeviceError> {
        Isa::chosen()?;
        if !cpu_kernels::supported() {
            return Ok(DeviceKind::CpuPlugin);
        }
        match devices.take_kernels() {
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
    pub fn report(&self) -> AnyResult<Vec<String>> {
        self.backend.report()
    }

    /// Compiles `hlo`, a serialised `HloModuleProto`, for the devices of `replicas` replicas.
    pub fn compile(&self, hlo: &[u8], replicas: usize) -> AnyResult<Box<dyn Executable>> {
        self.backend.compile(Hlo::Bytes(hlo), replicas)
    }

    /// The same device, which keeps compiled programs in the folder `named` ([`CompileCache::chosen`]), if they can be
    /// kept.
    pub fn with_cache(self, named: Option<&Path>) -> Self {
        let can_keep = self.backend.identity(self.replicas).is_some();
        if !can_keep && named.is_some_and(|folder| folder != Path::new(compile_cache::NONE)) {
            log::info!(
                "--compile-cache has no effect on this device ({}): what it compiles cannot be kept",
                self.description()
            );
        }
        let cache = match can_keep {
            true => CompileCache::chosen(named),
            false => None,
        };
        Self { cache, ..self }
    }

    /// Compiles `hlo` for the devices of `replicas` replicas and keeps the result, or loads what was kept.
    pub fn load_or_compile(&self, hlo: Hlo, replicas: usize) -> AnyResult<Compiled> {
        let (Some(cache), Some(identity)) = (&self.cache, self.backend.identity(replicas)) else {
            let executable = self.backend.compile(hlo, replicas)?;
            let earlier = None;
            return Ok(Compiled {
                executable,
                earlier,
            });
        };
        let hlo = hlo.to_bytes()?;
        let file = cache.file_of(&[identity, vec![sha256::sum(&hlo)]].concat());
        if let Some(kept) = cache.load(&file) {
            match self.backend.load(&kept.executable, replicas) {
                Ok(executable) => {
                    let earlier = Some(kept.compiling);
                    return Ok(Compiled {
                        executable,
                        earlier,
                    });
                }
                Err(error) => log::warn!(
                    "{} cannot be loaded, so the program is compiled again: {error}",
                    file.display()
                ),
            }
        }
        let start = Instant::now();
        let executable = self.compile(&hlo, replicas)?;
        let compiling = start.elapsed();
        match executable.to_bytes() {
            Ok(bytes) => cache.store(&file, &bytes, compiling),
            Err(error) => log::debug!("the compiled program is not kept: {error}"),
        }
        let earlier = None;
        Ok(Compiled {
            executable,
            earlier,
        })
    }

    /// Copies `data`, row-major, to the device of `replica` as an array of dimensions `dims`. Returns once the host
    /// may reuse `data`.
    pub fn upload<T: HostElement>(
        &self,
        data: &[T],
        dims: &[usize],
        replica: usize,
    ) -> AnyResult<Box<dyn DeviceArray>> {
        self.backend.upload(T::values(data), dims, replica)
    }

    /// Copies `data` to the device of `replica` as an array of one dimension, possibly after this has returned.
    pub fn upload_shared(
        &self,
        data: Arc<Vec<f32>>,
        replica: usize,
    ) -> AnyResult<Box<dyn DeviceArray>> {
        let dims = [data.len()];
        self.backend.upload(Values::Shared(data), &dims, replica)
    }
}

/// The exit code when a plugin crashes the process: the one for a device that cannot be used.
pub const CRASH_EXIT_CODE: u8 = 4;

/// Checks the plugin file at `path`, then has `start` start it. Whatever goes wrong meanwhile, a crash
/// included, is blamed on the plugin.
pub fn start_plugin<T>(
    path: &Path,
    start: impl FnOnce() -> Result<T, String>,
) -> Result<T, DeviceError> {
    let _crash = signals::blame_crashes_on(
        &format!(
            "error: the PJRT plugin {} crashed while it started; try another version of it, or run with \
         --device cpu",
            text::shown(path)
        ),
        CRASH_EXIT_CODE,
    );
    plugin_file::check(path).map_err(|reason| DeviceError::PluginFile {
        path: path.into(),
        reason,
    })?;
    start().map_err(|reason| plugin_error(path, reason))
}

/// The error for a plugin that did not start, with the reason that it gave.
fn plugin_error(path: &Path, reason: String) -> DeviceError {
    // libtpu names its lock file or, failing that, the device that it cannot open.
    const BUSY: [&str; 3] = [
        "libtpu_lockfile",
        "already in use",
        "Device or resource busy",
    ];
    let holders = tpu_holders::tpu_holders(Path::new("/"));
    if BUSY.iter().any(|text| reason.contains(text)) && !holders.is_empty() {
        return DeviceError::Held {
            holders: holders.join(", "),
        };
    }
    DeviceError::Plugin {
        path: path.into(),
        reason,
    }
}

/// XLA's message without the C++ backtrace that the binding appends.
pub fn first_line(error: &xla::Error) -> String {
    match error {
        xla::Error::XlaError { msg, .. } => msg.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}
