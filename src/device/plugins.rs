//! Finds the PJRT plugins that drive devices, without loading anything: those that the environment names, and the places
//! where one may be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::device::entries::{entries, file_name};
use crate::device::error::DeviceError;
use crate::device::plugin_kind::PluginKind;
use crate::device::runtime;
use crate::system::user_cache;

/// Names a plugin as `<type>:<path>`; the variable of the `xla` crate.
pub const PLUGIN_VARIABLE: &str = "XLA_PJRT_PLUGIN";
/// Names libtpu's file; libtpu's own variable.
pub const TPU_VARIABLE: &str = "TPU_LIBRARY_PATH";

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
    let Some(value) = std::env::var_os(PLUGIN_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str() {
        Some(value) => parse_variable(value).map(Some),
        None => Err(DeviceError::PluginVariable {
            value: value.to_string_lossy().into_owned(),
        }),
    }
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
    if variable(user_cache::VARIABLE).is_none() {
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
    user_cache::folder()
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

/// Paths as one comma-separated text.
fn join(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::test_root::root_with;

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
