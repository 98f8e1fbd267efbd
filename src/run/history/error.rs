//! What can be wrong with a history.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::run::history::row::{COLUMNS, MAX_LINE_LEN};
use crate::system::files::WriteError;

/// A history file that cannot be read, or a row that does not belong in it.
#[derive(Debug, Error)]
pub enum HistoryError {
    #[error("cannot read the history {}: {reason}", path.display())]
    Read { path: PathBuf, reason: io::Error },
    #[error("{} is not CSV: {reason}", path.display())]
    Csv { path: PathBuf, reason: csv::Error },
    #[error(
        "{} line 1: expected the header '{}', got '{got}'",
        path.display(),
        COLUMNS.join(",")
    )]
    Header { path: PathBuf, got: String },
    #[error("{} line {line}: expected at most {MAX_LINE_LEN} bytes, got more", path.display())]
    Line { path: PathBuf, line: usize },
    #[error("{} line {line}: expected {} fields, got {got}", path.display(), COLUMNS.len())]
    FieldCount {
        path: PathBuf,
        line: u64,
        got: usize,
    },
    #[error("{} line {line}, column {column}: expected {expected}, got '{got}'", path.display())]
    Field {
        path: PathBuf,
        line: u64,
        column: &'static str,
        expected: &'static str,
        got: String,
    },
    #[error(
        "{} holds epoch {last}: expected a later epoch after it, got {got}",
        path.display()
    )]
    EpochOrder {
        path: PathBuf,
        last: usize,
        got: usize,
    },
    #[error(transparent)]
    Write(#[from] WriteError),
}
