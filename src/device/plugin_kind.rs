//! The kinds of plugin: what they are called, where they belong, how they are opened.

use std::path::Path;

use pjrt::Value;

/// The platforms whose plugins the program knows to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginKind {
    Tpu,
    Gpu,
    /// A CPU plugin stands in for the runtime's own CPU; it is used only where it is asked for.
    Cpu,
    /// Any other plugin, under the name that the user gave.
    Named(String),
}

impl PluginKind {
    /// The name in messages.
    pub fn device(&self) -> &'static str {
        match self {
            Self::Tpu => "TPU",
            Self::Gpu => "GPU",
            Self::Cpu => "CPU",
            Self::Named(_) => "device",
        }
    }

    /// The argument of `./setup` that installs the plugin, and its place below the plugin folder.
    pub fn setup(&self) -> (&'static str, &'static str) {
        match self {
            Self::Gpu => ("cuda", "cuda/xla_cuda_plugin.so"),
            Self::Cpu => ("cpu-plugin", "cpu/libpjrt_cpu.so"),
            Self::Tpu | Self::Named(_) => ("tpu", "tpu/libtpu.so"),
        }
    }

    /// The options that the plugin gets when it opens its devices; a CPU is opened as `cpus` devices.
    pub fn options(&self, cpus: usize) -> Vec<(&'static str, Value)> {
        match self {
            Self::Cpu if cpus > 1 => vec![("cpu_device_count", Value::Int(cpus as i64))],
            _ => Vec::new(),
        }
    }

    /// The plugin's places below a folder of Python packages.
    pub fn in_python(&self) -> &'static [&'static str] {
        match self {
            Self::Tpu => &["libtpu/libtpu.so"],
            Self::Gpu => &[
                "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
                "jax_plugins/xla_cuda12/xla_cuda_plugin.so",
            ],
            Self::Cpu | Self::Named(_) => &[],
        }
    }
}

/// The kind of the plugin at `path`, by its file name.
pub fn kind_of(path: &Path) -> PluginKind {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase());
    match name {
        Some(name) if name.contains("tpu") => PluginKind::Tpu,
        Some(name) if name.contains("cuda") => PluginKind::Gpu,
        Some(name) if name.contains("cpu") => PluginKind::Cpu,
        _ => PluginKind::Named("plugin".to_owned()),
    }
}
