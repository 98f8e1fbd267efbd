//! Finds accelerators and the PJRT plugins that drive them, without loading anything.
//!
//! A plugin is loaded only where its hardware is: libtpu on a machine without a TPU asks a cloud
//! metadata server for minutes before it gives up.

use std::path::{Path, PathBuf};

use crate::device::DeviceError;

/// Names a plugin as `<type>:<path>`; the variable of the `xla` crate.
pub const PLUGIN_VARIABLE: &str = "XLA_PJRT_PLUGIN";
/// Names libtpu's file; libtpu's own variable.
pub const TPU_VARIABLE: &str = "TPU_LIBRARY_PATH";

const GOOGLE_PCI_VENDOR: &str = "0x1ae0";
const NVIDIA_PCI_VENDOR: &str = "0x10de";

/// The platforms whose plugins the program knows to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginKind {
    Tpu,
    Gpu,
    /// A CPU plugin stands in for the runtime's own CPU; it is used only where it is asked for.
    Cpu,
    /// Any other, under the name that the user gave.
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

    /// The key under which PJRT registers the plugin.
    pub fn registry_name(&self) -> &str {
        match self {
            Self::Tpu => "tpu",
            Self::Gpu => "cuda",
            Self::Cpu => "cpu",
            Self::Named(name) => name,
        }
    }

    /// The argument of `./setup` that installs the plugin, and its place below the plugin folder.
    fn setup(&self) -> (&'static str, &'static str) {
        match self {
            Self::Gpu => ("cuda", "cuda/xla_cuda_plugin.so"),
            Self::Cpu => ("cpu-plugin", "cpu/libpjrt_cpu.so"),
            Self::Tpu | Self::Named(_) => ("tpu", "tpu/libtpu.so"),
        }
    }
}

/// The kind of the plugin at `path`, by its file name.
pub fn kind_of(path: &Path) -> PluginKind {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase());
    match name {
        Some(name) if name.contains("tpu") => PluginKind::Tpu,
        Some(name) if name.contains("cuda") => PluginKind::Gpu,
        _ => PluginKind::Named("plugin".to_owned()),
    }
}

/// The kind and path in the value of [`PLUGIN_VARIABLE`].
pub fn parse_variable(value: &str) -> Result<(PluginKind, PathBuf), DeviceError> {
    match value.split_once(':') {
        Some((kind, path)) if !kind.is_empty() && !path.is_empty() => {
            let kind = match kind.to_lowercase().as_str() {
                "tpu" => PluginKind::Tpu,
                "cuda" | "gpu" => PluginKind::Gpu,
                other => PluginKind::Named(other.to_owned()),
            };
            Ok((kind, PathBuf::from(path)))
        }
        _ => Err(DeviceError::PluginVariable {
            value: value.to_owned(),
        }),
    }
}

/// The plugin for the hardware of `kind` found below `root` (the root of the file system).
pub fn find(kind: &PluginKind, root: &Path) -> Result<PathBuf, DeviceError> {
    let hardware = hardware(kind, root);
    if hardware.is_empty() {
        return Err(DeviceError::NoHardware {
            device: kind.device(),
            looked_for: looked_for(kind).to_owned(),
        });
    }
    let candidates = candidates(kind, root);
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(DeviceError::NoPlugin {
            device: kind.device(),
            found: hardware.join(", "),
            tried: join(&candidates),
            setup: kind.setup().0,
        }),
    }
}

/// The plugin of `kind` to compile with; its hardware need not be there.
pub fn find_compiler(kind: PluginKind) -> Result<PathBuf, DeviceError> {
    let candidates = candidates(&kind, Path::new("/"));
    let found = candidates.iter().find(|path| path.is_file());
    found.cloned().ok_or_else(|| DeviceError::NoCompiler {
        device: kind.device(),
        tried: join(&candidates),
        setup: kind.setup().0,
    })
}

/// Where a plugin of `kind` may lie, most particular first.
pub fn candidates(kind: &PluginKind, root: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if *kind == PluginKind::Tpu {
        paths.extend(std::env::var_os(TPU_VARIABLE).map(PathBuf::from));
    }
    paths.extend(cache_dir().map(|cache| cache.join("plugins").join(kind.setup().1)));
    let file = kind.setup().1.rsplit('/').next().unwrap_or_default();
    for folder in ["usr/lib", "usr/local/lib", "lib"] {
        paths.push(root.join(folder).join(file));
    }
    paths
}

/// The folder in which `./setup` keeps what it brings.
pub fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable("RESNET_XLA_CACHE") {
        return Some(PathBuf::from(dir));
    }
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(cache.join("resnet-xla"))
}

/// Signs of an accelerator of `kind` below `root`: device files and PCI cards.
pub fn hardware(kind: &PluginKind, root: &Path) -> Vec<String> {
    match kind {
        PluginKind::Tpu => {
            let mut found = device_files(root, "dev", "accel");
            // /dev/vfio/vfio is there on any machine with the driver; groups have numbers.
            found.extend(
                device_files(root, "dev/vfio", "")
                    .into_iter()
                    .filter(|path| path.ends_with(|c: char| c.is_ascii_digit())),
            );
            found.extend(pci_cards(root, GOOGLE_PCI_VENDOR));
            found
        }
        PluginKind::Gpu => {
            let mut found = device_files(root, "dev", "nvidia");
            found.extend(pci_cards(root, NVIDIA_PCI_VENDOR));
            found
        }
        PluginKind::Cpu | PluginKind::Named(_) => Vec::new(),
    }
}

/// What [`hardware`] looks for, in words.
pub fn looked_for(kind: &PluginKind) -> &'static str {
    match kind {
        PluginKind::Tpu => "/dev/accel*, /dev/vfio/<number>, PCI vendor 0x1ae0",
        PluginKind::Gpu => "/dev/nvidia*, PCI vendor 0x10de",
        PluginKind::Cpu | PluginKind::Named(_) => "nothing",
    }
}

fn device_files(root: &Path, folder: &str, prefix: &str) -> Vec<String> {
    let mut paths: Vec<_> = entries(&root.join(folder))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .map(|path| path.display().to_string())
        .collect();
    paths.sort();
    paths
}

fn pci_cards(root: &Path, vendor: &str) -> Vec<String> {
    entries(&root.join("sys/bus/pci/devices"))
        .filter(|card| {
            std::fs::read_to_string(card.join("vendor")).is_ok_and(|text| text.trim() == vendor)
        })
        .map(|card| format!("PCI card {}", card.display()))
        .collect()
}

/// The entries of a folder; none if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// Paths as one comma-separated text.
pub fn join(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_without_device_files_has_no_tpu() {
        let root = root_with(&[("dev/vfio/vfio", ""), ("dev/null", "")]);
        assert!(hardware(&PluginKind::Tpu, root.path()).is_empty());
        let error = find(&PluginKind::Tpu, root.path()).unwrap_err().to_string();
        assert!(
            error.contains("/dev/accel*") && error.contains("0x1ae0"),
            "{error}"
        );
    }

    #[test]
    fn each_sign_of_a_tpu_counts() {
        for (path, content) in [
            ("dev/accel0", ""),
            ("dev/vfio/3", ""),
            ("sys/bus/pci/devices/0000:00:04.0/vendor", "0x1ae0\n"),
        ] {
            let root = root_with(&[(path, content)]);
            assert_eq!(hardware(&PluginKind::Tpu, root.path()).len(), 1, "{path}");
        }
    }

    #[test]
    fn another_vendors_card_is_no_tpu() {
        let root = root_with(&[("sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n")]);
        assert!(hardware(&PluginKind::Tpu, root.path()).is_empty());
        assert_eq!(hardware(&PluginKind::Gpu, root.path()).len(), 1);
    }

    #[test]
    fn a_tpu_with_its_library_in_place_is_found() {
        let root = root_with(&[("dev/accel0", ""), ("usr/local/lib/libtpu.so", "")]);
        let candidates = candidates(&PluginKind::Tpu, root.path());
        assert!(candidates.contains(&root.path().join("usr/local/lib/libtpu.so")));
    }

    #[test]
    fn the_variable_needs_a_type_and_a_path() {
        let (kind, path) = parse_variable("cuda:/opt/plugin.so").unwrap();
        assert_eq!(
            (kind, path),
            (PluginKind::Gpu, PathBuf::from("/opt/plugin.so"))
        );
        for wrong in ["", "cuda", ":/opt/plugin.so", "cuda:"] {
            assert!(parse_variable(wrong).is_err(), "{wrong}");
        }
    }
}
