//! The kinds of plugin: what they are called, where they belong, how they are opened.

use std::path::Path;

use pjrt::Value;

/// Names the GPUs that a process may use; the driver's own variable.
pub const VISIBLE_GPUS: &str = "CUDA_VISIBLE_DEVICES";

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

    /// The options besides [`Self::options`] with which the plugin of process `index` of `count` opens its part of all
    /// their devices. `here` is the number of the process among those that have the same GPUs, and how many these are;
    /// `visible` is what [`VISIBLE_GPUS`] says.
    pub fn options_among(
        (index, count): (usize, usize),
        here: (usize, usize),
        visible: Option<&str>,
    ) -> Vec<(&'static str, Value)> {
        let mut options = vec![
            ("node_id", Value::Int(index as i64)),
            ("num_nodes", Value::Int(count as i64)),
        ];
        // A launcher that shows each process one GPU has divided them already.
        let is_divided = visible.is_some_and(|visible| !visible.contains(','));
        if here.1 > 1 && !is_divided {
            options.push(("visible_devices", Value::Ints(vec![here.0 as i64])));
        }
        options
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_machine_take_a_gpu_each_and_one_alone_takes_all() {
        let visible = |here, visible| {
            let mut options = PluginKind::options_among((5, 8), here, visible);
            let of_process = [("node_id", Value::Int(5)), ("num_nodes", Value::Int(8))];
            assert_eq!(options[..2], of_process);
            options.pop().filter(|(name, _)| *name == "visible_devices")
        };
        let one = |number| Some(("visible_devices", Value::Ints(vec![number])));
        assert_eq!(visible((0, 1), None), None);
        assert_eq!(visible((1, 4), None), one(1));
        assert_eq!(visible((1, 4), Some("4,5,6,7")), one(1));
        // Shown one by the launcher.
        assert_eq!(visible((1, 4), Some("5")), None);
    }
}
