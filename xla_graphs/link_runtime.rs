//! How executables find the XLA runtime when they run: a part of several packages' build scripts.

use std::path::{Path, PathBuf};

/// Has cargo link the package so that it finds the runtime of `xla_dir`, whatever else is on the system's search path.
/// Returns the folder of the runtime's libraries; without one the build ends with an error.
pub fn link_runtime(xla_dir: &Path) -> Option<PathBuf> {
    let library = xla_dir.join("lib/libxla_extension.so");
    // By the path with the link in it, so that a link to another runtime counts as a change.
    println!("cargo::rerun-if-changed={}", library.display());
    match folder_of(&library).and_then(|folder| Ok((link_args(&folder)?, folder))) {
        Ok((args, folder)) => {
            for arg in args {
                println!("cargo::rustc-link-arg={arg}");
            }
            Some(folder)
        }
        Err(reason) => {
            println!(
                "cargo::error=no XLA runtime in XLA_EXTENSION_DIR='{}' ({reason}): run ./setup first",
                xla_dir.display()
            );
            None
        }
    }
}

/// The real folder of `library`.
fn folder_of(library: &Path) -> Result<PathBuf, String> {
    let real = library
        .canonicalize()
        .map_err(|error| format!("{}: {error}", library.display()))?;
    let folder = real.parent().map(Path::to_owned);
    folder.ok_or_else(|| format!("{} lies in no folder", real.display()))
}

/// What the linker is told so that libraries are looked for in `folder` first.
///
/// The old kind of entry (DT_RPATH) comes before `LD_LIBRARY_PATH`, in which another TensorFlow may lie; the new kind
/// comes after it. Each word is an argument of its own, because `-Wl,` takes words apart at commas.
///
/// # Errors
/// What the system's loader cannot be told.
pub fn link_args(folder: &Path) -> Result<Vec<String>, String> {
    // The loader takes these for variables of its own, and a colon for the end of the path.
    const NOT_LITERAL: [&str; 7] = [
        ":",
        "$ORIGIN",
        "${ORIGIN}",
        "$LIB",
        "${LIB}",
        "$PLATFORM",
        "${PLATFORM}",
    ];
    let text = folder
        .to_str()
        .filter(|text| !text.contains(['\n', '\r']))
        .ok_or_else(|| format!("{} is not plain text, move it", folder.display()))?;
    if let Some(part) = NOT_LITERAL.into_iter().find(|part| text.contains(part)) {
        return Err(format!(
            "the system's loader cannot look in a folder with `{part}` in its name, move {text}"
        ));
    }
    let words = ["--disable-new-dtags", "-rpath", text];
    let args = words.iter().flat_map(|word| ["-Xlinker", word]);
    Ok(args.map(str::to_owned).collect())
}
