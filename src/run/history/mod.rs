//! `history.csv`: one row per epoch, in the manner of Keras's `CSVLogger`.

mod error;
mod row;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::HistoryError;
pub use row::{COLUMNS, EpochRecord};
use row::{MAX_LINE_LEN, beginning, parse_row};

use crate::system::files;

/// Longer files are not read. A hundred thousand epochs fit.
const MAX_LEN: u64 = 16 << 20;

/// The evaluation with the highest accuracy of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Counted from 0.
    pub epoch: usize,
    pub val_acc: f64,
}

/// The epochs of a run, in memory and in its `history.csv`. The two always agree.
///
/// Every change rewrites the small file atomically, so a crash never leaves half a row.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    /// Whether there is such a file.
    on_disk: bool,
    records: Vec<EpochRecord>,
}

impl History {
    /// Starts an empty history: a file with the header alone.
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let history = Self {
            path: path.to_owned(),
            on_disk: true,
            records: Vec::new(),
        };
        history.save()?;
        Ok(history)
    }

    /// An empty history in memory alone, for a process that writes nothing.
    pub fn in_memory() -> Self {
        Self {
            path: PathBuf::new(),
            on_disk: false,
            records: Vec::new(),
        }
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
            on_disk: true,
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

    /// Rewrites the file, if there is one.
    pub fn save(&self) -> Result<(), HistoryError> {
        if !self.on_disk {
            return Ok(());
        }
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
