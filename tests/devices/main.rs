//! Devices and plugins: which is taken, and each way in which one cannot be, with exit code 4.

#[path = "../program/mod.rs"]
mod program;
#[path = "../../pjrt/tests/support/stub.rs"]
mod stub;

mod bad_libraries;
mod choice;
mod described;
mod libtpu;
mod training;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::{program_as_shipped, text};

/// Asks for a device and nothing more; libtpu is kept from asking a metadata server.
pub fn doctor(args: &[&str]) -> Command {
    let mut command = program_as_shipped(&[&["doctor"], args].concat());
    command
        .env("TPU_SKIP_MDS_QUERY", "1")
        .env("TPU_WORKER_HOSTNAMES", "localhost");
    command
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The error text of a command that must end with the exit code of an unusable device.
pub fn device_error(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    errors
}

/// A shared library made of `source`, in C.
pub fn library(folder: &Path, source: &str) -> PathBuf {
    let (code, library) = (folder.join("plugin.c"), folder.join("plugin.so"));
    fs::write(&code, source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", text(&library), text(&code)])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", errors(&compiled));
    library
}
