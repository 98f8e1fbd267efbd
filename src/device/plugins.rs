//! Finds accelerators and the PJRT plugins that drive them, without loading anything.
//!
//! A plugin is loaded only where its hardware is: libtpu on a machine without a TPU asks a cloud
//! metadata server for minutes before it gives up.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xla::PluginOption;

use crate::device::error::DeviceError;
use crate::device::runtime;

/// Names a plugin as `<type>:<path>`; the variable of the `xla` crate.
pub const PLUGIN_VARIABLE: &str = "XLA_PJRT_PLUGIN";
/// Names setup's cache.
const CACHE_VARIABLE: &str = "RESNET_XLA_CACHE";
/// Names libtpu's file; libtpu's own variable.
pub const TPU_VARIABLE: &str = "TPU_LIBRARY_PATH";

/// PCI vendor, and which of its devices count; an empty list means all.
const TPU_CARDS: (&str, &[&str]) = (
    "0x1ae0",
    // v2 and v3, v4, v5p, v5e, v6e, v7x. The vendor's network and disk cards are in every cloud VM.
    &["0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"],
);
const GPU_CARDS: (&str, &[&str]) = ("0x10de", &[]);

/// Variables that are set on cloud machines with a TPU.
const TPU_MACHINE_VARIABLES: [&str; 2] = ["TPU_NAME", "TPU_ACCELERATOR_TYPE"];

/// Keeps libtpu from asking the cloud's metadata server.
const SKIP_METADATA: &str = "TPU_SKIP_MDS_QUERY";

/// libtpu locks this file while a process has the TPU.
const TPU_LOCK: &str = "tmp/libtpu_lockfile";

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
    pub fn setup(&self) -> (&'static str, &'static str) {
        match self {
            Self::Gpu => ("cuda", "cuda/xla_cuda_plugin.so"),
            Self::Cpu => ("cpu-plugin", "cpu/libpjrt_cpu.so"),
            Self::Tpu | Self::Named(_) => ("tpu", "tpu/libtpu.so"),
        }
    }

    /// The options that the plugin gets when it opens its devices; a CPU is opened as `cpus` devices.
    pub fn options(&self, cpus: usize) -> Vec<(&'static str, PluginOption)> {
        match self {
            Self::Cpu if cpus > 1 => {
                vec![("cpu_device_count", PluginOption::Int(cpus as i64))]
            }
            _ => Vec::new(),
        }
    }

    /// The plugin's places below a folder of Python packages.
    fn in_python(&self) -> &'static [&'static str] {
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

/// The kind and path in the value of [`PLUGIN_VARIABLE`].
fn parse_variable(value: &str) -> Result<(PluginKind, PathBuf), DeviceError> {
    match value.split_once(':') {
        Some((kind, path)) if !kind.is_empty() && !path.is_empty() => {
            let kind = match kind.to_lowercase().as_str() {
                "tpu" => PluginKind::Tpu,
                "cuda" | "gpu" => PluginKind::Gpu,
                "cpu" => PluginKind::Cpu,
                other => PluginKind::Named(other.to_owned()),
            };
            Ok((kind, PathBuf::from(path)))
        }
        _ => Err(DeviceError::PluginVariable {
            value: value.to_owned(),
        }),
    }
}

/// The plugin for `kind` that the environment names.
pub fn named(kind: &PluginKind) -> Result<Option<PathBuf>, DeviceError> {
    if *kind == PluginKind::Tpu
        && let Some(path) = std::env::var_os(TPU_VARIABLE).filter(|path| !path.is_empty())
    {
        return Ok(Some(PathBuf::from(path)));
    }
    let variable = in_variable()?.filter(|(named, _)| named == kind);
    Ok(variable.map(|(_, path)| path))
}

/// The plugin that [`PLUGIN_VARIABLE`] names, whatever its kind.
pub fn in_variable() -> Result<Option<(PluginKind, PathBuf)>, DeviceError> {
    let Some(value) = std::env::var_os(PLUGIN_VARIABLE) else {
        return Ok(None);
    };
    match value.to_str() {
        Some(value) => parse_variable(value).map(Some),
        None => Err(DeviceError::PluginVariable {
            value: value.to_string_lossy().into_owned(),
        }),
    }
}

/// Fails if there is no hardware of `kind` below `root`.
pub fn check_hardware(kind: &PluginKind, root: &Path) -> Result<(), DeviceError> {
    if hardware(kind, root).is_empty() {
        return Err(DeviceError::NoHardware {
            device: kind.device(),
            looked_for: looked_for(kind),
        });
    }
    Ok(())
}

/// Fails where libtpu would query a metadata server for minutes before finding that there is no TPU.
pub fn check_libtpu_may_load(kind: &PluginKind) -> Result<(), DeviceError> {
    if *kind == PluginKind::Tpu && std::env::var_os(SKIP_METADATA).is_none() {
        check_hardware(kind, Path::new("/"))?;
    }
    Ok(())
}

/// The plugin of `kind` to compile with. Its hardware need not be present.
pub fn find_compiler(kind: PluginKind) -> Result<PathBuf, DeviceError> {
    if let Some(path) = named(&kind)? {
        return Ok(path);
    }
    let candidates = candidates(&kind, Path::new("/"));
    let found = candidates.iter().find(|path| path.is_file());
    found.cloned().ok_or_else(|| DeviceError::NoCompiler {
        device: kind.device(),
        tried: join(&candidates),
        setup: kind.setup().0,
    })
}

/// Where a plugin of `kind` may be, most specific first: setup's cache, Python's packages, the
/// system's libraries.
pub fn candidates(kind: &PluginKind, root: &Path) -> Vec<PathBuf> {
    candidates_in(caches(), kind, root)
}

/// The caches that `./setup` may have put plugins into: the one that the user names, or else the usual
/// one and the one that holds the runtime.
fn caches() -> Vec<PathBuf> {
    let mut caches = Vec::from_iter(cache_dir());
    if variable(CACHE_VARIABLE).is_none() {
        caches.extend(runtime::library().as_deref().and_then(cache_of));
    }
    caches
}

/// [`candidates`], with `caches` for setup's.
fn candidates_in(
    caches: impl IntoIterator<Item = PathBuf>,
    kind: &PluginKind,
    root: &Path,
) -> Vec<PathBuf> {
    let in_cache = kind.setup().1;
    let in_caches = caches.into_iter().map(|cache| cache.join("plugins"));
    let mut paths: Vec<_> = in_caches.map(|plugins| plugins.join(in_cache)).collect();
    paths.dedup();
    for packages in python_packages(root) {
        for file in kind.in_python() {
            paths.push(packages.join(file));
        }
    }
    let file = in_cache.rsplit('/').next().unwrap_or_default();
    for folder in ["usr/lib", "usr/local/lib", "lib"] {
        paths.push(root.join(folder).join(file));
    }
    paths
}

/// The folders of Python packages: of the active environment, the user's and the system's.
fn python_packages(root: &Path) -> Vec<PathBuf> {
    let mut prefixes = Vec::new();
    prefixes.extend(std::env::var_os("VIRTUAL_ENV").map(PathBuf::from));
    prefixes.extend(std::env::var_os("CONDA_PREFIX").map(PathBuf::from));
    prefixes.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.extend([root.join("usr/local"), root.join("usr")]);
    let mut folders = Vec::new();
    for prefix in prefixes {
        let mut versions: Vec<_> = entries(&prefix.join("lib"))
            .filter(|path| file_name(path).starts_with("python3"))
            .collect();
        versions.sort();
        for version in versions {
            folders.extend(["site-packages", "dist-packages"].map(|name| version.join(name)));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// The folder in which `./setup` keeps what it installs.
pub fn cache_dir() -> Option<PathBuf> {
    if let Some(dir) = variable(CACHE_VARIABLE) {
        return Some(PathBuf::from(dir));
    }
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        // The standard has a relative one count as none.
        .filter(|cache| cache.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(cache.join("resnet-xla"))
}

/// The value of an environment variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder in which `./setup` made the runtime of this library, <cache>/xla-<key>/lib/<name>, and
/// where it also puts plugins.
fn cache_of(library: &Path) -> Option<PathBuf> {
    library.ancestors().nth(3).map(Path::to_owned)
}

/// Signs of an accelerator of `kind` below `root`: device files and PCI cards.
pub fn hardware(kind: &PluginKind, root: &Path) -> Vec<String> {
    match kind {
        PluginKind::Tpu => {
            let mut found = tpu_files(root);
            found.extend(pci_cards(root, TPU_CARDS));
            found.extend(TPU_MACHINE_VARIABLES.into_iter().filter_map(|name| {
                let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
                Some(format!("variable {name}={value}"))
            }));
            found
        }
        PluginKind::Gpu => {
            let mut found = device_files(root, "dev", "nvidia");
            found.extend(pci_cards(root, GPU_CARDS));
            found
        }
        PluginKind::Cpu | PluginKind::Named(_) => Vec::new(),
    }
}

/// What [`hardware`] looks for, in words.
pub fn looked_for(kind: &PluginKind) -> &'static str {
    match kind {
        PluginKind::Tpu => {
            "/dev/accel*, /dev/vfio/<number>, PCI vendor 0x1ae0, TPU_NAME, TPU_ACCELERATOR_TYPE"
        }
        PluginKind::Gpu => "/dev/nvidia*, PCI vendor 0x10de",
        PluginKind::Cpu | PluginKind::Named(_) => "nothing",
    }
}

/// The processes below `root` that hold the TPU, each with the file that shows it. Other users' open files
/// are not visible, but their locks are.
pub fn tpu_holders(root: &Path) -> Vec<String> {
    let mut holders = Vec::new();
    if let Some(pid) = lock_owner(root) {
        holders.push(describe_process(root, &pid, &format!("/{TPU_LOCK}")));
    }
    let files = tpu_files(root);
    for process in entries(&root.join("proc")) {
        let pid = file_name(&process);
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == std::process::id().to_string() {
            continue;
        }
        let open = entries(&process.join("fd")).filter_map(|fd| std::fs::read_link(fd).ok());
        let held = open.map(|path| path.display().to_string());
        if let Some(file) = held.into_iter().find(|path| files.contains(path)) {
            holders.push(describe_process(root, &pid, &file));
        }
    }
    holders
}

/// The process that locks libtpu's lock file, according to the kernel.
fn lock_owner(root: &Path) -> Option<String> {
    let inode = std::fs::metadata(root.join(TPU_LOCK)).ok()?.ino();
    let locks = std::fs::read_to_string(root.join("proc/locks")).ok()?;
    locks.lines().find_map(|line| {
        // 2: POSIX  ADVISORY  WRITE 31190 fe:00:10010719 0 EOF
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, _, _, _, pid, file, ..] = fields[..] else {
            return None;
        };
        let locked: u64 = file.rsplit(':').next()?.parse().ok()?;
        (locked == inode && pid != std::process::id().to_string()).then(|| pid.to_owned())
    })
}

fn describe_process(root: &Path, pid: &str, file: &str) -> String {
    let command = std::fs::read_to_string(root.join("proc").join(pid).join("comm"));
    let command = command.unwrap_or_default();
    format!("pid {pid} ({}) has {file}", command.trim())
}

/// The device files of TPU chips.
fn tpu_files(root: &Path) -> Vec<String> {
    let mut files = device_files(root, "dev", "accel");
    // /dev/vfio/vfio is there on any machine with the driver; groups have numbers.
    files.extend(
        device_files(root, "dev/vfio", "")
            .into_iter()
            .filter(|path| path.ends_with(|c: char| c.is_ascii_digit())),
    );
    files
}

fn device_files(root: &Path, folder: &str, prefix: &str) -> Vec<String> {
    let mut paths: Vec<_> = entries(&root.join(folder))
        .filter(|path| file_name(path).starts_with(prefix))
        .map(|path| path.display().to_string())
        .collect();
    paths.sort();
    paths
}

fn pci_cards(root: &Path, (vendor, devices): (&str, &[&str])) -> Vec<String> {
    let read = |card: &Path, file| {
        let text = std::fs::read_to_string(card.join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    entries(&root.join("sys/bus/pci/devices"))
        .filter(|card| read(card, "vendor") == vendor)
        .filter(|card| devices.is_empty() || devices.contains(&read(card, "device").as_str()))
        .map(|card| format!("PCI card {}", card.display()))
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The entries of a folder; none if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
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

    /// The [`hardware`] below `root`; this machine's own variables do not count.
    fn found(kind: &PluginKind, root: &tempfile::TempDir) -> Vec<String> {
        let mut signs = hardware(kind, root.path());
        signs.retain(|sign| !sign.starts_with("variable"));
        signs
    }

    #[test]
    fn a_machine_without_device_files_has_no_tpu() {
        let root = root_with(&[("dev/vfio/vfio", ""), ("dev/null", "")]);
        assert!(found(&PluginKind::Tpu, &root).is_empty());
    }

    #[test]
    fn a_machine_without_a_card_is_told_what_was_looked_for() {
        let root = root_with(&[("dev/null", "")]);
        let error = check_hardware(&PluginKind::Gpu, root.path()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("/dev/nvidia*") && error.contains("0x10de"),
            "{error}"
        );
    }

    /// A PCI card's two files.
    fn card(vendor: &'static str, device: &'static str) -> [(&'static str, &'static str); 2] {
        [
            ("sys/bus/pci/devices/0000:00:04.0/vendor", vendor),
            ("sys/bus/pci/devices/0000:00:04.0/device", device),
        ]
    }

    #[test]
    fn each_sign_of_a_tpu_counts() {
        let v5e = card("0x1ae0\n", "0x0063\n");
        for files in [&[("dev/accel0", "")][..], &[("dev/vfio/3", "")], &v5e] {
            let root = root_with(files);
            assert_eq!(found(&PluginKind::Tpu, &root).len(), 1, "{files:?}");
        }
    }

    #[test]
    fn a_cloud_machines_network_card_is_no_tpu() {
        // The virtual network card that the same vendor puts into its virtual machines.
        let root = root_with(&card("0x1ae0\n", "0x0042\n"));
        assert!(found(&PluginKind::Tpu, &root).is_empty());
    }

    #[test]
    fn another_vendors_card_is_no_tpu() {
        let root = root_with(&card("0x10de\n", "0x0063\n"));
        assert!(found(&PluginKind::Tpu, &root).is_empty());
        assert_eq!(found(&PluginKind::Gpu, &root).len(), 1);
    }

    /// The number of a process that is not this one.
    fn another_pid() -> u32 {
        std::process::id() + 1
    }

    #[test]
    fn the_process_that_locks_the_tpu_is_named() {
        let pid = another_pid();
        let root = root_with(&[(TPU_LOCK, ""), (&format!("proc/{pid}/comm"), "python3\n")]);
        let inode = std::fs::metadata(root.path().join(TPU_LOCK)).unwrap().ino();
        let locks = format!(
            "1: FLOCK  ADVISORY  WRITE 12 fe:00:{} 0 EOF\n\
             2: POSIX  ADVISORY  WRITE {pid} fe:00:{inode} 0 EOF\n",
            inode + 1
        );
        std::fs::write(root.path().join("proc/locks"), locks).unwrap();
        let holders = tpu_holders(root.path());
        let expected = format!("pid {pid} (python3) has /tmp/libtpu_lockfile");
        assert_eq!(holders, [expected]);
    }

    #[test]
    fn the_process_that_has_the_chip_open_is_named() {
        let pid = another_pid();
        let root = root_with(&[
            ("dev/accel0", ""),
            (&format!("proc/{pid}/comm"), "trainer\n"),
        ]);
        let chip = root.path().join("dev/accel0");
        let fds = root.path().join(format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&fds).unwrap();
        std::os::unix::fs::symlink(&chip, fds.join("7")).unwrap();
        let holders = tpu_holders(root.path());
        let expected = format!("pid {pid} (trainer) has {}", chip.display());
        assert_eq!(holders, [expected]);
    }

    #[test]
    fn python_packages_of_the_system_are_searched() {
        let file = "usr/lib/python3.12/dist-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so";
        let root = root_with(&[(file, "")]);
        let candidates = candidates(&PluginKind::Gpu, root.path());
        assert!(candidates.contains(&root.path().join(file)));
    }

    #[test]
    fn a_plugin_is_looked_for_beside_the_runtime_too() {
        let cache = PathBuf::from("/a cache");
        let runtime = cache.join("xla-0123456789ab/lib/libtensorflow_cc.so.2");
        let caches = [PathBuf::from("/home/.cache"), cache_of(&runtime).unwrap()];
        let candidates = candidates_in(caches, &PluginKind::Tpu, Path::new("/"));
        let expected = ["/home/.cache", "/a cache"]
            .map(|cache| Path::new(cache).join("plugins/tpu/libtpu.so"));
        assert_eq!(candidates[..2], expected);
    }

    #[test]
    fn the_same_cache_is_looked_at_once() {
        let caches = ["/a cache", "/a cache"].map(PathBuf::from);
        let candidates = candidates_in(caches, &PluginKind::Tpu, Path::new("/"));
        let in_cache = |path: &&PathBuf| path.starts_with("/a cache");
        assert_eq!(candidates.iter().filter(in_cache).count(), 1);
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
