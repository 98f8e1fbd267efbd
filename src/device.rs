//! Opens the device that a run computes on.
//!
//! An explicit device that is not there is an error; nothing falls back in silence.

use std::path::{Path, PathBuf};

use xla::{ArrayElement, PjRtBuffer, PjRtClient};

use crate::config::DeviceChoice;
use crate::plugins::{self, PluginKind};

/// A device with its PJRT client.
pub struct Device {
    client: PjRtClient,
    /// Which kind it turned out to be.
    pub kind: DeviceKind,
}

/// The kinds of device that the program treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Tpu,
    Gpu,
    Cpu,
    /// A plugin of another platform.
    Other,
}

/// A device that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "no {device} on this machine: looked for {looked_for}. \
         Run on a machine that has one, or with --device auto"
    )]
    NoHardware {
        device: &'static str,
        looked_for: String,
    },
    #[error(
        "the machine has a {device} ({found}), but its PJRT plugin was found in none of: {tried}. \
         Run `./setup {setup}` or name the plugin with --plugin"
    )]
    NoPlugin {
        device: &'static str,
        found: String,
        tried: String,
        setup: &'static str,
    },
    #[error(
        "no {device} compiler: its PJRT plugin was found in none of: {tried}. \
         Run `./setup {setup}` or name the plugin with --plugin"
    )]
    NoCompiler {
        device: &'static str,
        tried: String,
        setup: &'static str,
    },
    #[error(
        "the PJRT plugin {path} is not there; check --plugin, TPU_LIBRARY_PATH and XLA_PJRT_PLUGIN"
    )]
    PluginMissing { path: PathBuf },
    #[error("the PJRT plugin {path} cannot be used: {reason}")]
    Plugin { path: PathBuf, reason: String },
    #[error(
        "XLA_PJRT_PLUGIN is `{value}`; expected <type>:<path>, for example cuda:/opt/plugin.so"
    )]
    PluginVariable { value: String },
    #[error("the XLA runtime cannot open the CPU: {reason}")]
    Cpu { reason: String },
}

impl Device {
    /// Opens `choice`, or the plugin at `plugin` whatever the choice.
    pub fn open(choice: DeviceChoice, plugin: Option<&Path>) -> Result<Self, DeviceError> {
        if let Some(path) = plugin {
            return Self::load(&plugins::kind_of(path), path);
        }
        match choice {
            DeviceChoice::Tpu => Self::open_plugin(&PluginKind::Tpu),
            DeviceChoice::Gpu => Self::open_plugin(&PluginKind::Gpu),
            DeviceChoice::Cpu => Self::open_cpu(),
            DeviceChoice::Auto => Self::open_auto(),
        }
    }

    /// The plugin that the environment names, else the first of TPU, GPU, CPU that opens.
    fn open_auto() -> Result<Self, DeviceError> {
        if let Ok(value) = std::env::var(plugins::PLUGIN_VARIABLE) {
            let (kind, path) = plugins::parse_variable(&value)?;
            return Self::load(&kind, &path);
        }
        let mut missing = Vec::new();
        for kind in [PluginKind::Tpu, PluginKind::Gpu] {
            match Self::open_plugin(&kind) {
                Ok(device) => return Ok(device),
                Err(DeviceError::NoHardware { device, .. }) => missing.push(format!("no {device}")),
                // The hardware is there: say what keeps it from being used.
                Err(reason) => missing.push(reason.to_string()),
            }
        }
        log::info!("taking the CPU: {} on this machine", missing.join(", "));
        Self::open_cpu()
    }

    fn open_plugin(kind: &PluginKind) -> Result<Self, DeviceError> {
        let path = plugins::find(kind, Path::new("/"))?;
        Self::load(kind, &path)
    }

    fn open_cpu() -> Result<Self, DeviceError> {
        let client = PjRtClient::cpu().map_err(|error| DeviceError::Cpu {
            reason: first_line(&error),
        })?;
        Ok(Self {
            client,
            kind: DeviceKind::Cpu,
        })
    }

    fn load(kind: &PluginKind, path: &Path) -> Result<Self, DeviceError> {
        if !path.is_file() {
            return Err(DeviceError::PluginMissing { path: path.into() });
        }
        let client = PjRtClient::plugin(kind.registry_name(), path).map_err(|error| {
            DeviceError::Plugin {
                path: path.into(),
                reason: first_line(&error),
            }
        })?;
        let kind = match client.platform_name().to_lowercase().as_str() {
            "tpu" => DeviceKind::Tpu,
            "cuda" | "rocm" | "gpu" => DeviceKind::Gpu,
            "cpu" | "host" => DeviceKind::Cpu,
            _ => DeviceKind::Other,
        };
        Ok(Self { client, kind })
    }

    /// The PJRT client.
    pub fn client(&self) -> &PjRtClient {
        &self.client
    }

    /// Platform and kind of the first device, for example `cpu (2 cores)` or `TPU v5 lite`.
    pub fn description(&self) -> String {
        let kind = self.client.devices().first().map(|d| d.kind());
        match (self.kind, kind) {
            (DeviceKind::Cpu, _) => {
                let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
                format!("cpu ({cores} cores)")
            }
            (_, Some(kind)) => kind,
            (_, None) => self.client.platform_name(),
        }
    }

    /// Copies `data` to the device; returns when the host may reuse it.
    pub fn upload<T: ArrayElement>(&self, data: &[T], dims: &[usize]) -> xla::Result<PjRtBuffer> {
        let devices = self.client.devices();
        self.client
            .buffer_from_host_buffer(data, dims, devices.first())
    }
}

/// XLA's message without the C++ backtrace that the binding appends.
pub fn first_line(error: &xla::Error) -> String {
    match error {
        xla::Error::XlaError { msg, .. } => msg.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}
