//! Lets the program find the XLA runtime when it runs, and stamps into it what it was built from.

#[path = "xla_graphs/link_runtime.rs"]
mod link_runtime;

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;

fn main() {
    let traces = env::var_os("CARGO_FEATURE_TRACE").is_some();
    take_place(if traces { "full" } else { "small" });
    match traces {
        true => use_runtime(),
        false => be_small(),
    }
    stamp(
        "RESNET_XLA_RUSTC",
        output_of(&env::var("RUSTC").unwrap_or_default(), &["--version"]),
    );
    stamp("RESNET_XLA_GIT_COMMIT", git_commit());
    for asset in ["fast.safetensors", "sample/train.bin", "sample/test.bin"] {
        if let Err(error) = compress(&Path::new("assets").join(asset)) {
            println!(
                "cargo::error=cannot compress assets/{asset}, which comes with the program: {error}"
            );
        }
    }
}

/// Puts `asset`, compressed, into OUT_DIR: the program has it in itself.
fn compress(asset: &Path) -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={}", asset.display());
    let name = asset.file_name().unwrap_or_default().to_string_lossy();
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let file = std::fs::File::create(out_dir.join(format!("{name}.zlib")))?;
    let mut compressor = ZlibEncoder::new(file, Compression::best());
    compressor.write_all(&std::fs::read(asset)?)?;
    compressor.finish()?;
    Ok(())
}

/// Makes the program the one file that people copy, without the tenth that its symbols would be.
fn be_small() {
    stamp("RESNET_XLA_RUNTIME", Some("none".to_owned()));
    println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
}

/// Has cargo build the program anew after one of the other `kind` was built in the same folder: their libraries have the
/// same name there, and cargo takes one for the other.
fn take_place(kind: &str) {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // OUT_DIR is target/PROFILE/build/PACKAGE/out.
    let Some(folder) = out_dir.ancestors().nth(3) else {
        return;
    };
    let mark = folder.join("resnet-xla.kind");
    println!("cargo::rerun-if-changed={}", mark.display());
    if std::fs::read_to_string(&mark).is_ok_and(|built| built == kind) {
        return;
    }
    if let Err(error) = std::fs::write(&mark, kind) {
        println!("cargo::warning=cannot write {}: {error}", mark.display());
    }
}

/// Links the program with the XLA runtime.
fn use_runtime() {
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = PathBuf::from(env::var_os("XLA_EXTENSION_DIR").unwrap_or_default());
    let runtime = link_runtime::link_runtime(&xla_dir);
    if let Some(runtime) = &runtime {
        need_quiet(runtime);
    }
    stamp_places(runtime.as_deref());
    stamp(
        "RESNET_XLA_RUNTIME",
        std::fs::read_to_string(xla_dir.join("VERSION")).ok(),
    );
}

/// Has the program's library ask for libxla_quiet.so itself. Otherwise only a library of the runtime asks for it, by its
/// own rules, and then `LD_LIBRARY_PATH` comes first.
fn need_quiet(runtime: &Path) {
    let quiet = runtime.join("libxla_quiet.so");
    if quiet.is_file() {
        let quiet = quiet.to_string_lossy();
        for word in ["--push-state", "--no-as-needed", &quiet, "--pop-state"] {
            println!("cargo::rustc-link-arg-cdylib=-Xlinker");
            println!("cargo::rustc-link-arg-cdylib={word}");
        }
    }
}

/// Stamps in where the program's library and the XLA runtime's are, for when the program cannot be loaded.
fn stamp_places(runtime: Option<&Path>) {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // OUT_DIR is target/PROFILE/build/PACKAGE/out.
    let built = out_dir.ancestors().nth(3).map(|folder| folder.join("deps"));
    stamp(
        "RESNET_XLA_BUILT_IN",
        built.map(|path| path.display().to_string()),
    );
    let runtime = runtime.unwrap_or(Path::new(""));
    stamp(
        "RESNET_XLA_RUNTIME_DIR",
        Some(runtime.display().to_string()),
    );
    stamp(
        "RESNET_XLA_RUNTIME_FILES",
        Some(libraries(runtime).join("/")),
    );
}

/// The names of the libraries in `folder`.
fn libraries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.contains(".so")).collect();
    names.sort();
    names
}

/// Makes `value` readable in the program by `env!(name)`, "unknown" where there is none.
fn stamp(name: &str, value: Option<String>) {
    println!(
        "cargo::rustc-env={name}={}",
        value.as_deref().unwrap_or("unknown").trim()
    );
}

/// What the program is made of: a change in any of it makes the stamp say `-dirty`.
const SOURCES: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "assets",
    "build.rs",
    "cpu_client",
    "cpu_kernels",
    "kernel_contract",
    "pjrt",
    "src",
    "templates",
    "xla_graphs",
];

/// The short hash of the commit this is built from, with `-dirty` when tracked files differ from it.
/// None outside a checkout of this repository.
fn git_commit() -> Option<String> {
    watch(SOURCES);
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
