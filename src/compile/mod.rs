//! Compiles the computations of a run for devices that this machine does not have, and reports what the
//! compiler estimates.
//!
//! ```text
//!  target ──► pjrt::topology ─┐
//!  settings ► model::choose ──┴─► executable ─┬─► memory, FLOPs ───────────┬─► analysis ─► table, JSON
//!                                             └─► program ─► hlo (cycles) ─┘
//! ```

pub mod analysis;
pub mod hlo;
pub mod target;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use xla_graphs::{Model, eval_step, predict_step, train_step};

use crate::device::flags;
use crate::device::plugin_kind::PluginKind;
use crate::device::plugins;
use crate::device::saved_executable::Compiler;
use crate::device::threads;
use crate::device::{Device, DeviceError, DeviceKind, start_plugin, take_kernels};
use crate::model::choose::{self, ModelSettings};
use crate::model::network::Network;
use pjrt::{Client, Executable, PjrtError, Plugin, Program};
use target::Target;

/// The computations of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Forward, backward and update of a batch
    Train,
    /// Metrics and logits of a batch
    Eval,
    /// Logits of a batch
    Predict,
}

/// A compiled computation.
pub struct Compiled {
    pub network: Network,
    pub model: Model,
    pub plugin: PathBuf,
    /// Version of the PJRT C API that the plugin speaks.
    pub api_version: (i32, i32),
    pub executable: Executable,
    /// The traced computation, a serialised `HloModuleProto`.
    pub hlo: Vec<u8>,
    /// What compiled it, and for what kind of device; none where the plugin has no version.
    pub compiler: Option<Compiler>,
    pub traced: Duration,
    pub compiled: Duration,
}

impl Step {
    /// The name of the computation in a run.
    pub fn computation(self) -> &'static str {
        match self {
            Self::Train => "train_step",
            Self::Eval => "eval_step",
            Self::Predict => "predict_step",
        }
    }
}

/// Compiles `step` of the model of `settings`, with a replica for every chip of `target`, with the
/// plugin at `plugin` or the one that `./setup` installs. `for_a_run`: with the kernels that a run on a CPU plugin calls;
/// otherwise composed of XLA's operations, which the compiler can describe.
pub fn run(
    target: &Target,
    settings: &ModelSettings,
    step: Step,
    plugin: Option<PathBuf>,
    for_a_run: bool,
) -> Result<Compiled> {
    let path = match plugin {
        Some(path) => path,
        None => plugins::find_compiler(compiler(target))?,
    };
    let unusable = |error: PjrtError| DeviceError::Plugin {
        path: path.clone(),
        reason: error.to_string(),
    };
    pjrt::keep_libtpu_offline();
    threads::rehearse(1).map_err(DeviceError::from)?;
    flags::check_plugin(&compiler(target), &path)?;
    let plugin = start_plugin(&path, || {
        Plugin::load(&path).map_err(|error| error.to_string())
    })?;

    let kind = match target {
        Target::Tpu { .. } => DeviceKind::Tpu,
        Target::Cpu if for_a_run => Device::kind_of_cpu(&path, || take_kernels(&plugin))?,
        Target::Cpu => DeviceKind::CpuPlugin,
    };
    let model = choose::build(settings, kind)?;
    let start = Instant::now();
    let hlo = match step {
        Step::Train => train_step(&model),
        Step::Eval => eval_step(&model),
        Step::Predict => predict_step(&model),
    };
    let hlo = hlo.context("tracing")?;
    let traced = start.elapsed();

    let options = pjrt::compile_options(target.chips());
    let start = Instant::now();
    let program = Program::Hlo(&hlo);
    let (version, kinds, executable) = match target {
        Target::Tpu { .. } => {
            let topology = plugin.topology(&target.to_string(), &target.options());
            let topology = topology.map_err(unusable)?;
            let version = topology.platform_version().map_err(unusable)?;
            let kinds = topology.device_kinds().map_err(unusable)?;
            (version, kinds, topology.compile(program, &options))
        }
        // The CPU plugin cannot describe a topology, but its device always exists.
        Target::Cpu => {
            let client = plugin.client(&[]).map_err(unusable)?;
            let version = client.platform_version().map_err(unusable)?;
            let kinds = device_kinds(&client).map_err(unusable)?;
            let loaded = client.compile(program, &options);
            (
                version,
                kinds,
                loaded.and_then(|loaded| loaded.executable()),
            )
        }
    };
    let compiler = version.map(|version| {
        let kind = kinds.into_iter().next().unwrap_or_default();
        let is_cpu = matches!(target, Target::Cpu);
        Compiler::new(&path, &version, plugin.api_version(), kind, is_cpu)
    });
    Ok(Compiled {
        network: settings.network,
        model,
        executable: executable.context("compiling")?,
        traced,
        compiled: start.elapsed(),
        compiler,
        hlo,
        api_version: plugin.api_version(),
        plugin: path,
    })
}

fn device_kinds(client: &Client) -> Result<Vec<String>, PjrtError> {
    let devices = client.addressable_devices()?;
    devices.iter().map(pjrt::Device::kind).collect()
}

fn compiler(target: &Target) -> PluginKind {
    match target {
        Target::Tpu { .. } => PluginKind::Tpu,
        Target::Cpu => PluginKind::Cpu,
    }
}
