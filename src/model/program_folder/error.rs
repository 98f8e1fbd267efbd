//! What is wrong with a folder of traced computations.

use std::io;
use std::path::PathBuf;

use crate::device::DeviceKind;

/// A folder that cannot be used as `--program`.
#[derive(Debug, thiserror::Error)]
pub enum ProgramFolderError {
    #[error(
        "cannot read {path}: {reason}; --program expects a folder that `export --program` wrote"
    )]
    Read { path: PathBuf, reason: io::Error },
    #[error(
        "{path}: {reason}; --program expects a folder that `export --program` wrote, as it wrote it"
    )]
    Content { path: PathBuf, reason: String },
    #[error(
        "{path}: expected SHA-256 {expected}, got {got}: the file was changed; export the program again"
    )]
    Sum {
        path: PathBuf,
        expected: String,
        got: String,
    },
    #[error(
        "the program in {folder} is of version {got}, and this is {this}, which reads version {expected}; export it \
         again with this one"
    )]
    Version {
        folder: PathBuf,
        got: u64,
        expected: u64,
        this: &'static str,
    },
    #[error(
        "the program in {folder} was made with {setting} {made}, and {asked} is asked for; leave that setting as it \
         was, or export another program"
    )]
    Setting {
        folder: PathBuf,
        setting: String,
        made: String,
        asked: String,
    },
    #[error(
        "the program in {0} orders the weights in another way than this version does; export it again with this one"
    )]
    Layout(PathBuf),
    #[error(
        "the program in {folder} calls kernels (version {version}) of the CPU, and this device of kind {device} does not \
         run them; export it again with --on {device}"
    )]
    Device {
        folder: PathBuf,
        version: i32,
        device: DeviceKind,
    },
    #[error(
        "the program in {folder} calls kernels of version {made}, and this processor has {here}; export it again on it"
    )]
    Kernels {
        folder: PathBuf,
        made: i32,
        here: String,
    },
    #[error(
        "{device} cannot compile {computation} of the program in {folder}: {reason}; export it again with --on {device}"
    )]
    Compile {
        folder: PathBuf,
        computation: String,
        device: DeviceKind,
        reason: String,
    },
    #[error(
        "--program {0}: expected a new or empty folder, or one with an earlier program; there are other files in it"
    )]
    Occupied(PathBuf),
}
