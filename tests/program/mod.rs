//! Runs the program as a user does.

#![allow(dead_code, reason = "each test file uses its part of this module")]

pub mod executable;
pub mod in_process;
pub mod plugins;
pub mod runs;
pub mod shims;
pub mod small;
pub mod tensorboard;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Has XLA compile in a tenth of the time, to slower code: tests of a few steps want that.
pub const COMPILE_FAST: &str =
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false";

/// Names flags for XLA that every test's programs get besides, for example to hold it to fewer instructions
/// (`scripts/suite_rounds.sh`).
const MORE_FLAGS: &str = "RESNET_XLA_TEST_XLA_FLAGS";

/// `flags` and those of [`MORE_FLAGS`].
pub fn xla_flags(flags: &str) -> String {
    let more = std::env::var(MORE_FLAGS).unwrap_or_default();
    format!("{flags} {more}").trim().to_owned()
}

/// The program with `args`, and with nothing of this process's settings but its instruction set.
pub fn program(args: &[&str]) -> Command {
    let mut command = program_as_shipped(args);
    command.env("XLA_FLAGS", xla_flags(COMPILE_FAST));
    command
}

/// Adds `alone` to the arguments of `launcher`, and its changes of the environment to the launcher's.
pub fn take_over(launcher: &mut Command, alone: &Command) {
    launcher.arg(alone.get_program()).args(alone.get_args());
    take_environment(launcher, alone);
}

/// Changes the environment of `command` as that of `other` is.
pub fn take_environment(command: &mut Command, other: &Command) {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// [`program`], compiling as it does for users.
pub fn program_as_shipped(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resnet-xla"));
    command.args(args);
    heed_signals(&mut command);
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.as_encoded_bytes().starts_with(b"RESNET_XLA_")) {
        if name != cpu_kernels::isa::VARIABLE {
            command.env_remove(name);
        }
    }
    for name in [
        "XLA_PJRT_PLUGIN",
        "TPU_LIBRARY_PATH",
        "TPU_NAME",
        "TPU_ACCELERATOR_TYPE",
        "RUST_LOG",
        "XLA_FLAGS",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    // Nothing of the user's, and no test's programs stay for another.
    command.env("RESNET_XLA_COMPILE_CACHE", "none");
    command
}

/// Has signals end `command`, even where this process was started with some of them ignored: `nohup` does that, and a
/// script that starts the tests in the background.
fn heed_signals(command: &mut Command) {
    let heed = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: the default action needs no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe { command.pre_exec(heed) };
}

/// Runs the program and returns what it printed and how it ended.
pub fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// Runs the program, which must succeed, and returns its standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with exit code `code`, and returns its error text.
pub fn fail(args: &[&str], code: i32) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    errors
}

/// What `predict --json` prints, on a CPU, by the network of `checkpoint` and with `more` arguments: an object for each image.
pub fn predict(checkpoint: &Path, more: &[&str]) -> Vec<Value> {
    let words = ["predict", "--device", "cpu", "--json", "--checkpoint"];
    let printed = succeed(&[&words[..], &[text(checkpoint)], more].concat());
    serde_json::from_str(&printed).unwrap()
}

/// `path` as text for a command line.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All that is under `root`, by path; files with their content.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.clone(), fs::read(&path).ok());
        }
    }
    found
}
