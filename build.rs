//! Lets the program find the XLA runtime when it runs, makes bindings of the PJRT C API, and stamps
//! into the program what it was built from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = PathBuf::from(env::var_os("XLA_EXTENSION_DIR").unwrap_or_default());
    link_runtime(&xla_dir);
    bind_pjrt(&xla_dir);
    stamp(
        "RESNET_XLA_RUNTIME",
        std::fs::read_to_string(xla_dir.join("VERSION")).ok(),
    );
    stamp(
        "RESNET_XLA_RUSTC",
        output_of(&env::var("RUSTC").unwrap_or_default(), &["--version"]),
    );
    stamp("RESNET_XLA_GIT_COMMIT", git_commit());
}

/// Adds the folder of the XLA runtime's libraries to the executables' search path (rpath).
fn link_runtime(xla_dir: &Path) {
    let library = xla_dir.join("lib/libxla_extension.so");
    match library.canonicalize() {
        Ok(real_library) => {
            // By the path with the link in it, so that a link to another runtime counts as a change.
            println!("cargo::rerun-if-changed={}", library.display());
            let folder = real_library
                .parent()
                .expect("a file's canonical path has a parent");
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
        }
        Err(error) => println!(
            "cargo::error=no XLA runtime in XLA_EXTENSION_DIR='{}' ({}: {error}): run ./setup first",
            xla_dir.display(),
            library.display()
        ),
    }
}

/// Writes `pjrt_c_api.rs`: the types and sizes of the PJRT C API, from the XLA runtime's own header.
fn bind_pjrt(xla_dir: &Path) {
    let header = xla_dir.join("include/xla/pjrt/c/pjrt_c_api.h");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let written = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .allowlist_item("PJRT_.*")
        .derive_default(true)
        .generate()
        .map_err(|error| error.to_string())
        .and_then(|bindings| {
            let file = Path::new(&out_dir).join("pjrt_c_api.rs");
            bindings
                .write_to_file(file)
                .map_err(|error| error.to_string())
        });
    if let Err(error) = written {
        println!(
            "cargo::error=no bindings of {}: {error}; run ./setup first",
            header.display()
        );
    }
}

/// Makes `value` readable in the program by `env!(name)`, "unknown" where there is none.
fn stamp(name: &str, value: Option<String>) {
    println!(
        "cargo::rustc-env={name}={}",
        value.as_deref().unwrap_or("unknown").trim()
    );
}

/// The short hash of the commit this is built from, with `-dirty` when tracked files differ from it.
/// None outside a checkout of this repository.
fn git_commit() -> Option<String> {
    watch(["build.rs", "Cargo.toml", "Cargo.lock", "src", "xla_graphs"]);
    let git_files = output_of(
        "git",
        &["rev-parse", "--git-path", "HEAD", "--git-path", "logs/HEAD"],
    )?;
    watch(git_files.lines());
    let prefix = output_of("git", &["rev-parse", "--show-prefix"])?;
    if !prefix.trim().is_empty() {
        return None; // this package lies inside some other repository
    }
    let commit = output_of("git", &["rev-parse", "--short", "HEAD"])?;
    let changes = output_of("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changes.is_empty() { "" } else { "-dirty" };
    Some(format!("{}{dirty}", commit.trim()))
}

/// Has cargo run this script again when one of `paths` changes.
fn watch<'a>(paths: impl IntoIterator<Item = &'a str>) {
    for path in paths {
        // A path that does not exist would make cargo run this script on every build.
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What a program prints, None when it cannot be run or fails.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
