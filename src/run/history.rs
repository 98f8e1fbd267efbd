//! `history.csv`: one row per epoch, in the manner of Keras's `CSVLogger`.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::system::files::{self, WriteError};

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

/// Longer files are not read. A hundred thousand epochs fit.
const MAX_LEN: u64 = 16 << 20;
/// No row is as long, in bytes.
const MAX_LINE_LEN: usize = 1000;

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
    /// Training images per second, evaluation left out.
    pub images_per_sec: f64,
    /// Share of the training time spent waiting for the next batch.
    pub input_wait_frac: f64,
}

/// The evaluation with the highest accuracy of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Counted from 0.
    pub epoch: usize,
    pub val_acc: f64,
}

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

/// The epochs of a run, in memory and in its `history.csv`. The two always agree.
///
/// Every change rewrites the small file atomically, so a crash never leaves half a row.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    records: Vec<EpochRecord>,
}

impl History {
    /// Starts an empty history: a file with the header alone.
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let history = Self {
            path: path.to_owned(),
            records: Vec::new(),
        };
        history.save()?;
        Ok(history)
    }

    /// Reads a history back.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        match Self::salvage(path) {
            (history, None) => Ok(history),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// The rows before the first one that cannot be read, and what is wrong with that one; all rows if nothing is.
    pub fn salvage(path: &Path) -> (Self, Option<HistoryError>) {
        let mut history = Self {
            path: path.to_owned(),
            records: Vec::new(),
        };
        let fault = history.read_rows().err();
        (history, fault)
    }

    /// Adds the rows of the file, up to the first that cannot be read.
    fn read_rows(&mut self) -> Result<(), HistoryError> {
        let path = self.path.clone();
        let text = files::read_text(&path, MAX_LEN).map_err(|reason| HistoryError::Read {
            path: path.clone(),
            reason,
        })?;
        // The CSV reader keeps a number for each field of a row, which takes many times the memory of the text.
        if let Some(line) = text.lines().position(|line| line.len() > MAX_LINE_LEN) {
            return Err(HistoryError::Line {
                path,
                line: line + 1,
            });
        }
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes())
            .into_records();
        let csv_error = |reason| HistoryError::Csv {
            path: path.clone(),
            reason,
        };
        let header = rows.next().transpose().map_err(csv_error)?;
        if header.is_none_or(|header| header.iter().ne(COLUMNS)) {
            return Err(HistoryError::Header {
                path,
                got: beginning(text.lines().next().unwrap_or_default()),
            });
        }
        for row in rows {
            let record = parse_row(&path, &row.map_err(csv_error)?)?;
            self.check_order(&record)?;
            self.records.push(record);
        }
        Ok(())
    }

    /// The epochs so far, in order.
    pub fn records(&self) -> &[EpochRecord] {
        &self.records
    }

    /// How many epochs the run has begun, rows that were lost included.
    pub fn epochs(&self) -> usize {
        self.records.last().map_or(0, |last| last.epoch + 1)
    }

    /// Adds an epoch; when this returns, its row is on disk.
    pub fn push(&mut self, record: EpochRecord) -> Result<(), HistoryError> {
        self.check_order(&record)?;
        self.records.push(record);
        self.save()
    }

    /// Drops the rows of `epoch` and later, which a resumed run trains again.
    pub fn truncate_from(&mut self, epoch: usize) -> Result<(), HistoryError> {
        self.records.retain(|record| record.epoch < epoch);
        self.save()
    }

    /// The epoch with the highest validation accuracy; of equals, the first.
    pub fn best(&self) -> Option<Best> {
        let mut best: Option<Best> = None;
        for record in &self.records {
            if let Some(val_acc) = record.val_acc
                && best.is_none_or(|best| val_acc > best.val_acc)
            {
                best = Some(Best {
                    epoch: record.epoch,
                    val_acc,
                });
            }
        }
        best
    }

    fn check_order(&self, record: &EpochRecord) -> Result<(), HistoryError> {
        match self.records.last() {
            Some(last) if record.epoch <= last.epoch => Err(HistoryError::EpochOrder {
                path: self.path.clone(),
                last: last.epoch,
                got: record.epoch,
            }),
            _ => Ok(()),
        }
    }

    /// Rewrites the file.
    pub fn save(&self) -> Result<(), HistoryError> {
        let csv_error = |reason| HistoryError::Csv {
            path: self.path.clone(),
            reason,
        };
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(Vec::new());
        writer.write_record(COLUMNS).map_err(csv_error)?;
        for record in &self.records {
            writer.serialize(record).map_err(csv_error)?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|error| csv_error(error.into_error().into()))?;
        Ok(files::write_bytes(&self.path, &bytes)?)
    }
}

/// As much of `text` as fits into a message.
fn beginning(text: &str) -> String {
    text.chars().take(200).collect()
}

fn parse_row(path: &Path, row: &csv::StringRecord) -> Result<EpochRecord, HistoryError> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const HEADER: &str =
        "epoch,loss,acc,val_loss,val_acc,lr,seconds,images_per_sec,input_wait_frac\n";

    fn record(epoch: usize, val_acc: Option<f64>) -> EpochRecord {
        EpochRecord {
            epoch,
            loss: 1.25,
            acc: 0.5,
            val_loss: val_acc.map(|_| 1.5),
            val_acc,
            lr: 0.1,
            seconds: 12.5,
            images_per_sec: 4000.0,
            input_wait_frac: 0.015625,
        }
    }

    /// A history file with the given rows under the right header.
    fn file_with(rows: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        fs::write(&path, format!("{HEADER}{rows}")).unwrap();
        (folder, path)
    }

    fn read_error(rows: &str) -> String {
        let (_folder, path) = file_with(rows);
        History::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn each_epoch_becomes_one_row_under_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        let mut history = History::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), HEADER);
        history.push(record(0, Some(0.25))).unwrap();
        history.push(record(1, None)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!(
                "{HEADER}0,1.25,0.5,1.5,0.25,0.1,12.5,4000.0,0.015625\n1,1.25,0.5,,,0.1,12.5,4000.0,0.015625\n"
            )
        );
    }

    #[test]
    fn a_hand_written_file_is_read_into_its_numbers() {
        let (_folder, path) = file_with("0,2.5,0.125,,,1e-1,3,40,0\n4,nan,0.5,2,0.75,0.01,1,2,1\n");
        let history = History::read(&path).unwrap();
        let [first, second] = history.records() else {
            panic!("expected two rows, got {:?}", history.records());
        };
        assert_eq!((first.epoch, first.loss, first.lr), (0, 2.5, 0.1));
        assert_eq!((first.val_loss, first.val_acc), (None, None));
        assert!(second.loss.is_nan());
        assert_eq!((second.epoch, second.val_acc), (4, Some(0.75)));
    }

    #[test]
    fn truncating_drops_the_epochs_that_run_again_from_the_file_too() {
        let (_folder, path) =
            file_with("0,1,0,1,0,1,1,1,0\n1,1,0,1,0,1,1,1,0\n2,1,0,1,0,1,1,1,0\n");
        History::read(&path).unwrap().truncate_from(1).unwrap();
        let mut history = History::read(&path).unwrap();
        assert_eq!(history.records().len(), 1);
        history.push(record(1, None)).unwrap();
        assert_eq!(History::read(&path).unwrap().records().len(), 2);
    }

    #[test]
    fn the_best_epoch_is_the_first_with_the_highest_validation_accuracy() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::create(&folder.path().join("history.csv")).unwrap();
        assert_eq!(history.best(), None);
        let accuracies = [None, Some(0.5), Some(f64::NAN), Some(0.75), Some(0.75)];
        for (epoch, val_acc) in accuracies.into_iter().enumerate() {
            history.push(record(epoch, val_acc)).unwrap();
        }
        let best = Best {
            epoch: 3,
            val_acc: 0.75,
        };
        assert_eq!(history.best(), Some(best));
    }

    #[test]
    fn an_epoch_that_does_not_come_after_the_last_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::create(&folder.path().join("history.csv")).unwrap();
        history.push(record(3, None)).unwrap();
        let message = history.push(record(3, None)).unwrap_err().to_string();
        assert!(message.contains("holds epoch 3"), "{message}");
        assert_eq!(history.records().len(), 1);
    }

    #[test]
    fn a_wrong_field_is_reported_with_line_column_expected_and_got() {
        let message = read_error("0,1,0,1,0,1,1,1,0\n1,1,many,1,0,1,1,1,0\n");
        let end = "history.csv line 3, column acc: expected a number, got 'many'";
        assert!(message.ends_with(end), "{message}");
        let message = read_error("-1,1,0,1,0,1,1,1,0\n");
        let end = "line 2, column epoch: expected a whole number from 0, got '-1'";
        assert!(message.ends_with(end), "{message}");
    }

    #[test]
    fn the_rows_before_a_damaged_one_can_be_salvaged() {
        let (_folder, path) = file_with("0,1,0,1,0,1,1,1,0\n1,1,0.5\n2,1,0,1,0,1,1,1,0\n");
        let (history, fault) = History::salvage(&path);
        let epochs: Vec<usize> = history.records().iter().map(|r| r.epoch).collect();
        assert_eq!(epochs, [0]);
        assert_eq!(history.epochs(), 1);
        assert!(fault.unwrap().to_string().contains("line 3"));
    }

    #[test]
    fn an_empty_loss_is_an_error_while_an_empty_validation_is_not() {
        assert!(read_error("0,,0,1,0,1,1,1,0\n").contains("column loss"));
    }

    #[test]
    fn a_row_cut_short_is_reported_with_its_line() {
        let message = read_error("0,1,0,1,0,1,1,1,0\n1,1,0.5");
        let end = "line 3: expected 9 fields, got 3";
        assert!(message.ends_with(end), "{message}");
    }

    #[test]
    fn a_foreign_or_empty_file_is_reported_with_the_header_that_was_expected() {
        for text in ["time,temperature\n1,2\n", ""] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("history.csv");
            fs::write(&path, text).unwrap();
            let message = History::read(&path).unwrap_err().to_string();
            assert!(message.contains(HEADER.trim_end()), "{message}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_record_survives_being_written_and_read(
            loss in any::<f64>().prop_filter("a number", |x| !x.is_nan()),
            acc in 0.0..1.0f64,
            validation in proptest::option::of((0.0..1e9f64, 0.0..1.0f64)),
            epoch in 0usize..1_000_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("history.csv");
            let record = EpochRecord {
                loss,
                acc,
                val_loss: validation.map(|(loss, _)| loss),
                val_acc: validation.map(|(_, acc)| acc),
                ..record(epoch, None)
            };
            History::create(&path).unwrap().push(record.clone()).unwrap();
            let history = History::read(&path).unwrap();
            prop_assert_eq!(history.records(), &[record][..]);
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*|([0-9a-z.,\"\n-]*)") {
            let (_folder, path) = file_with(&text);
            let _ = History::read(&path);
        }
    }
}
