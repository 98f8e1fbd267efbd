//! A row of `history.csv`: its columns, and what is wrong with one that cannot be read.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::history::error::HistoryError;

/// The columns of `history.csv`, in file order; the field order of [`EpochRecord`].
pub const COLUMNS: [&str; 9] = [
    "epoch",
    "loss",
    "acc",
    "val_loss",
    "val_acc",
    "lr",
    "seconds",
    "images_per_sec",
    "input_wait_frac",
];

/// No row is as long, in bytes.
pub const MAX_LINE_LEN: usize = 1000;

/// The results of one epoch of training. Accuracies and the input wait are fractions of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 0, as Keras's `CSVLogger` writes it.
    pub epoch: usize,
    /// Mean training loss over the epoch, L2 term included.
    pub loss: f64,
    pub acc: f64,
    /// Empty in the file when the epoch ended without an evaluation.
    pub val_loss: Option<f64>,
    pub val_acc: Option<f64>,
    /// Learning rate of the epoch.
    pub lr: f64,
    /// Wall-clock time of the epoch, evaluation included.
    pub seconds: f64,
    /// Training images per second, evaluation left out. 0 where the program was started anew with only the evaluation
    /// left to do.
    pub images_per_sec: f64,
    /// Share of the training time spent waiting for the next batch.
    pub input_wait_frac: f64,
}

impl EpochRecord {
    /// Training images per second, if it is known.
    pub fn rate(&self) -> Option<f64> {
        Some(self.images_per_sec).filter(|rate| *rate > 0.0)
    }
}

pub fn parse_row(path: &Path, row: &csv::StringRecord) -> Result<EpochRecord, HistoryError> {
    let line = row.position().map_or(0, csv::Position::line);
    if row.len() != COLUMNS.len() {
        return Err(HistoryError::FieldCount {
            path: path.to_owned(),
            line,
            got: row.len(),
        });
    }
    row.deserialize(None).map_err(|reason| {
        let Some(column) = wrong_column(&reason) else {
            return HistoryError::Csv {
                path: path.to_owned(),
                reason,
            };
        };
        HistoryError::Field {
            path: path.to_owned(),
            line,
            column: COLUMNS[column],
            expected: ["a whole number from 0", "a number"][column.min(1)],
            got: beginning(&row[column]),
        }
    })
}

/// The column whose field could not be parsed.
fn wrong_column(error: &csv::Error) -> Option<usize> {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
        return None;
    };
    let column = err.field()? as usize;
    (column < COLUMNS.len()).then_some(column)
}

/// As much of `text` as fits into a message.
pub fn beginning(text: &str) -> String {
    text.chars().take(200).collect()
}
