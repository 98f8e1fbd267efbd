//! One file: which of its columns have the pictures and the labels.

use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArrayType, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use crate::data::error::DataError;

/// The column with the bytes of the pictures, by its path: in a struct, or by itself.
const IMAGES: [&str; 4] = ["image.bytes", "img.bytes", "image", "img"];
/// The column with the labels; CIFAR-100 has two kinds.
const LABELS: [&str; 2] = ["label", "fine_label"];
/// The key of the metadata in which hubs describe the columns, as JSON.
const FEATURES: &str = "huggingface";
/// Labels that are read at a time.
const LABELS_AT_ONCE: usize = 4096;

/// An open file.
pub struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    images: usize,
    labels: usize,
}

/// The bytes of the pictures of a row group.
pub struct Images {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The definition level of a row that has bytes.
    present: i16,
}

impl Table {
    /// Opens the file at `path`, and finds its columns.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let length = file.metadata().map_err(DataError::io("read", path))?.len();
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        let columns = reader.metadata().file_metadata().schema_descr().columns();
        let place = |name: &&str| columns.iter().position(|c| c.path().string() == *name);
        let find = |names: &[&str]| names.iter().find_map(place);
        let missing = |expected: &str| {
            let names: Vec<String> = columns.iter().map(|c| c.path().string()).collect();
            wrong(
                path,
                format!("expected {expected}, got the columns {}", names.join(", ")),
            )
        };
        let images = find(&IMAGES).ok_or_else(|| {
            missing("a column `image` or `img` of bytes, or of a struct with `bytes` in it")
        })?;
        let labels = find(&LABELS)
            .ok_or_else(|| missing("a column `label` or `fine_label` of whole numbers"))?;
        check(path, &columns[images], &[Type::BYTE_ARRAY], "bytes")?;
        let numbers = [Type::INT32, Type::INT64];
        check(path, &columns[labels], &numbers, "whole numbers")?;
        let table = Self {
            path: path.to_owned(),
            reader,
            images,
            labels,
        };
        table.check_places(length)?;
        Ok(table)
    }

    /// Refuses columns that are not inside the file, which has so many bytes: the reader would panic.
    fn check_places(&self, length: u64) -> Result<(), DataError> {
        for group in self.reader.metadata().row_groups() {
            for column in [self.images, self.labels].map(|column| group.column(column)) {
                let dictionary = column.dictionary_page_offset();
                let start = dictionary.unwrap_or(column.data_page_offset());
                let end = start.checked_add(column.compressed_size());
                let fits = end.and_then(|end| u64::try_from(end).ok()) <= Some(length);
                if start < 0 || column.compressed_size() < 0 || end.is_none() || !fits {
                    let name = column.column_path().string();
                    let reason = format!("the column `{name}` is not inside the file");
                    return Err(wrong(&self.path, reason));
                }
            }
        }
        Ok(())
    }

    /// How many rows the file says it has.
    pub fn rows(&self) -> u64 {
        let rows = self.reader.metadata().file_metadata().num_rows();
        rows.try_into().unwrap_or(0)
    }

    pub fn row_groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// The names of the classes, if the file has them.
    pub fn class_names(&self) -> Option<Vec<String>> {
        let metadata = self.reader.metadata().file_metadata();
        let entries = metadata.key_value_metadata()?;
        let text = entries
            .iter()
            .find(|entry| entry.key == FEATURES)?
            .value
            .as_ref()?;
        let features: Value = serde_json::from_str(text).ok()?;
        let column = metadata.schema_descr().column(self.labels);
        let names = features["info"]["features"][column.name()]["names"].as_array()?;
        names
            .iter()
            .map(|name| Some(name.as_str()?.to_owned()))
            .collect()
    }

    /// The label of each row.
    pub fn labels(&self) -> Result<Vec<i64>, DataError> {
        let mut labels = Vec::new();
        for group in 0..self.row_groups() {
            match self.column(group, self.labels)? {
                ColumnReader::Int32ColumnReader(reader) => self.add_labels(reader, &mut labels)?,
                ColumnReader::Int64ColumnReader(reader) => self.add_labels(reader, &mut labels)?,
                // `open` has checked the type.
                _ => {}
            }
        }
        Ok(labels)
    }

    fn add_labels<T>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        labels: &mut Vec<i64>,
    ) -> Result<(), DataError>
    where
        T: DataType,
        T::T: Into<i64>,
    {
        loop {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (rows, ..) = guarded(&self.path, || {
                reader.read_records(LABELS_AT_ONCE, Some(&mut levels), None, &mut values)
            })?;
            if rows == 0 {
                return Ok(());
            }
            if values.len() < rows {
                let most = levels.iter().max();
                let null = levels
                    .iter()
                    .position(|level| Some(level) != most || values.is_empty());
                let row = labels.len() + null.unwrap_or(0);
                return Err(wrong(
                    &self.path,
                    format!("row {row}: expected a label, got null"),
                ));
            }
            labels.extend(values.into_iter().map(Into::into));
            if labels.len() as u64 > self.rows() {
                let rows = self.rows();
                return Err(wrong(
                    &self.path,
                    format!("expected {rows} labels, got more"),
                ));
            }
        }
    }

    /// The bytes of the pictures in a row group.
    pub fn images(&self, group: usize) -> Result<Images, DataError> {
        let columns = self.reader.metadata().file_metadata().schema_descr();
        match self.column(group, self.images)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Images {
                reader,
                present: columns.column(self.images).max_def_level(),
            }),
            // `open` has checked the type.
            _ => Err(wrong(&self.path, "expected pictures as bytes".to_owned())),
        }
    }

    fn column(&self, group: usize, column: usize) -> Result<ColumnReader, DataError> {
        guarded(&self.path, || {
            self.reader.get_row_group(group)?.get_column_reader(column)
        })
    }
}

impl Images {
    /// The bytes of the next pictures of the file at `path`, at most `most`: `None` where a row has none. Nothing at the
    /// end.
    pub fn next(&mut self, path: &Path, most: usize) -> Result<Vec<Option<Vec<u8>>>, DataError> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (rows, ..) = guarded(path, || {
            self.reader
                .read_records(most, Some(&mut levels), None, &mut values)
        })?;
        let mut values = values.into_iter().map(|bytes| bytes.data().to_vec());
        // A column in which nothing may be missing has no levels.
        levels.resize(rows, self.present);
        let row = |level: i16| (level == self.present).then(|| values.next()).flatten();
        Ok(levels.into_iter().map(row).collect())
    }
}

/// Refuses a column of another type than `types`, or of lists.
fn check(
    path: &Path,
    column: &ColumnDescriptor,
    types: &[Type],
    expected: &str,
) -> Result<(), DataError> {
    let found = column.physical_type();
    if types.contains(&found) && column.max_rep_level() == 0 {
        return Ok(());
    }
    let name = column.path().string();
    let lists = if column.max_rep_level() > 0 {
        "lists of "
    } else {
        ""
    };
    Err(wrong(
        path,
        format!("the column `{name}`: expected {expected}, got {lists}{found}"),
    ))
}

/// What `read` gives. The reader panics at some damaged files, which is an error like any other.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    // What is left of a reader that has panicked is not used again.
    match panic::catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| unread(path, &error)),
        Err(_) => Err(wrong(
            path,
            "cannot read the Parquet file: it is damaged".to_owned(),
        )),
    }
}

fn unread(path: &Path, error: &ParquetError) -> DataError {
    // It names the feature of the crate that would be needed.
    let reason = error.to_string();
    let advice = match reason.contains("Disabled feature") {
        true => "; write it with the compression snappy, gzip or none",
        false => "",
    };
    wrong(
        path,
        format!("cannot read the Parquet file: {reason}{advice}"),
    )
}

pub fn wrong(path: &Path, reason: String) -> DataError {
    DataError::Unfit {
        path: path.to_owned(),
        reason,
    }
}
