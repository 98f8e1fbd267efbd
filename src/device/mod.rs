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
        reason = "only the build with the XLA runtime joins processes"
    )
)]
mod heartbeat;
mod identity;
pub mod leave;
#[cfg_attr(
    not(feature = "trace"),
    allow(
        dead_code,
        reason = "only the build with the XLA runtime joins processes"
    )
)]
pub mod mpi;
mod plugin;
pub mod plugin_file;
pub mod plugin_kind;
pub mod plugins;
pub mod processes;
pub mod replicas;
pub mod runtime;
pub mod saved_executable;
mod seconds;
#[cfg(test)]
mod test_root;
pub mod threads;
mod tpu_holders;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result as AnyResult;
use clap::ValueEnum;
use cpu_kernels::Isa;
use serde::{Deserialize, Serialize};

use crate::device::backend::{
    Backend, Collectives, DeviceArray, Executable, Hlo, HostElement, Values,
};
use crate::device::compile_cache::CompileCache;
use crate::device::coordinator::Group;
use crate::device::plugin::PluginDevices;
use crate::device::plugin_kind::PluginKind;
use crate::device::processes::{Launcher, Processes};
use crate::device::replicas::ReplicaChoice;
use crate::device::saved_executable::{SavedExecutable, SavedExecutableError};
use crate::system::proc;
use crate::system::sha256;
use crate::system::signals;
use crate::system::text;
use pjrt::{KeyValueStore, PjrtError, Value};

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

pub use embedded::xla_message;
pub use error::DeviceError;
pub use plugin::take_kernels;

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

/// A program that can run.
pub struct Compiled {
    pub executable: Box<dyn Executable>,
    pub origin: Origin,
    /// How long it took to compile, now or at an earlier time.
    pub compiling: Duration,
}

/// A program that was looked for among those that were compiled before.
pub struct Sought {
    /// None where it is still to be compiled.
    found: Option<Compiled>,
    hlo: Vec<u8>,
    replicas: usize,
    /// Where the cache keeps it, if there is one.
    file: Option<PathBuf>,
}

impl Sought {
    /// The SHA-256 sum of the program as it was traced.
    pub fn digest(&self) -> String {
        sha256::sum(&self.hlo)
    }
}

/// Where a program that can run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Compiler,
    /// It was kept at an earlier start
    Cache,
    /// The user named a file
    File,
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
        let alone = Processes::alone();
        let device = Self::open_among(Group::of(&alone), choice, plugin, replicas)?;
        match device.processes() {
            1 => Ok(device),
            hosts => Err(DeviceError::Slice { hosts }),
        }
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

    /// Loads a plugin that the user named. One that is neither for a TPU nor for a GPU may be for the
    /// CPU, and is asked for `cpus` devices.
    fn load_named(
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

    fn load(
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
        let joined = coordinator::join(group, &gpus, coordinator::patience()?)?;
        let Processes { index, count, .. } = *group.processes;
        options.extend(PluginKind::options_among(
            (index, count),
            joined.here,
            visible,
        ));
        let devices = joined.open(|store| Self::open_plugin(path, &options, Some(store)))?;
        joined.meet()?;
        devices
            .check_shares()
            .map_err(|error| joined.fail(&error))?;
        joined.watch();
        Ok(devices)
    }

    fn new(backend: Box<dyn Backend>, kind: DeviceKind) -> Self {
        Self {
            backend,
            kind,
            replicas: 1,
            cache: None,
            saved: Vec::new(),
        }
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

    /// The same device, which loads the compiled programs in these `files`.
    ///
    /// # Errors
    /// A file that is damaged, or was compiled for other devices or by another plugin.
    pub fn with_executables(self, files: &[PathBuf]) -> Result<Self, SavedExecutableError> {
        let mut saved = Vec::new();
        for file in files {
            let executable = SavedExecutable::read(file)?;
            match self.backend.compiler() {
                Some(compiler) => executable.check_device(compiler, self.replicas)?,
                None => return Err(executable.unsupported(self.description())),
            }
            saved.push(executable);
        }
        Ok(Self { saved, ..self })
    }

    /// The program `name`, whose computation is `hlo`, for the devices of `replicas` replicas: loaded from a file of
    /// [`Self::with_executables`], loaded from the cache, or compiled, which is kept.
    pub fn load_or_compile(&self, name: &str, hlo: Hlo, replicas: usize) -> AnyResult<Compiled> {
        let hlo = hlo.to_bytes()?.into_owned();
        self.compile_unless_found(self.look_for(name, hlo, replicas)?)
    }

    /// Whether a file of [`Self::with_executables`] has the program `name`.
    pub fn has_saved(&self, name: &str) -> bool {
        self.saved_as(name).is_some()
    }

    fn saved_as(&self, name: &str) -> Option<&SavedExecutable> {
        let mut saved = self.saved.iter();
        saved.find(|saved| saved.about.computation == name)
    }

    /// The part of [`Self::load_or_compile`] that takes no compiling; `hlo` is a serialised `HloModuleProto`.
    pub fn look_for(&self, name: &str, hlo: Vec<u8>, replicas: usize) -> AnyResult<Sought> {
        let mut sought = Sought {
            hlo,
            replicas,
            found: None,
            file: None,
        };
        if let Some(saved) = self.saved_as(name) {
            sought.found = Some(self.load_saved(saved, &sought.hlo)?);
        } else if let (Some(cache), Some(identity)) = (&self.cache, self.backend.identity(replicas))
        {
            let file = cache.file_of(&[identity, vec![sha256::sum(&sought.hlo)]].concat());
            sought.found = self.load_kept(cache, &file, replicas);
            sought.file = Some(file);
        }
        Ok(sought)
    }

    /// The program in `file` of the cache, if it is there and can be loaded.
    fn load_kept(&self, cache: &CompileCache, file: &Path, replicas: usize) -> Option<Compiled> {
        let kept = cache.load(file)?;
        match self.backend.load(&kept.executable, replicas) {
            Ok(executable) => Some(Compiled {
                executable,
                origin: Origin::Cache,
                compiling: kept.compiling,
            }),
            Err(error) => {
                log::warn!(
                    "{} cannot be loaded, so the program is compiled again: {error}",
                    file.display()
                );
                None
            }
        }
    }

    /// The rest of [`Self::load_or_compile`].
    pub fn compile_unless_found(&self, sought: Sought) -> AnyResult<Compiled> {
        if let Some(found) = sought.found {
            return Ok(found);
        }
        let start = Instant::now();
        let hlo = Hlo::Bytes(&sought.hlo);
        let compiled = Compiled {
            executable: self.backend.compile(hlo, sought.replicas)?,
            origin: Origin::Compiler,
            compiling: start.elapsed(),
        };
        if let (Some(cache), Some(file)) = (&self.cache, &sought.file) {
            match compiled.executable.to_bytes() {
                Ok(bytes) => cache.store(file, &bytes, compiled.compiling),
                Err(error) => log::debug!("the compiled program is not kept: {error}"),
            }
        }
        Ok(compiled)
    }

    fn load_saved(&self, saved: &SavedExecutable, hlo: &[u8]) -> AnyResult<Compiled> {
        saved.check_program(hlo)?;
        let executable = self.backend.load(&saved.executable, self.replicas);
        Ok(Compiled {
            executable: executable.map_err(|error| saved.refused(&error))?,
            origin: Origin::File,
            compiling: Duration::try_from_secs_f64(saved.about.compile_s).unwrap_or_default(),
        })
    }

    /// Records what the devices do from now on.
    ///
    /// # Errors
    /// Devices that cannot tell.
    pub fn record(&self) -> AnyResult<pjrt::Recording> {
        self.backend.record()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices whose compiled programs have no bytes.
    struct Keepless;

    impl Backend for Keepless {
        fn device_count(&self) -> usize {
            1
        }

        fn device_kind(&self) -> &str {
            "keepless"
        }

        fn report(&self) -> AnyResult<Vec<String>> {
            Ok(Vec::new())
        }

        fn compile(&self, _hlo: Hlo, _replicas: usize) -> AnyResult<Box<dyn Executable>> {
            anyhow::bail!("there is no compiler")
        }

        fn upload(&self, _: Values, _: &[usize], _: usize) -> AnyResult<Box<dyn DeviceArray>> {
            anyhow::bail!("there is no memory")
        }
    }

    #[test]
    fn a_device_whose_programs_cannot_be_kept_gets_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("cache");
        let device = Device::new(Box::new(Keepless), DeviceKind::Other).with_cache(Some(&named));
        assert!(device.cache.is_none() && !named.exists());
        let error = device.load_or_compile("train_step", Hlo::Bytes(b""), 1);
        assert_eq!(error.err().unwrap().to_string(), "there is no compiler");
    }
}
