//! One file: which of its columns have the pictures and the labels.

use std::fs::File;
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
        let reader = SerializedFileReader::new(file).map_err(|error| unread(path, &error))?;
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
        Ok(Self {
            path: path.to_owned(),
            reader,
            images,
            labels,
        })
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
            let read = reader.read_records(LABELS_AT_ONCE, Some(&mut levels), None, &mut values);
            let (rows, ..) = read.map_err(|error| unread(&self.path, &error))?;
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
        let group = self.reader.get_row_group(group);
        let column = group.and_then(|group| group.get_column_reader(column));
        column.map_err(|error| unread(&self.path, &error))
    }
}

impl Images {
    /// The bytes of the next pictures, at most `most`: `None` where a row has none. Nothing at the end.
    pub fn next(&mut self, most: usize) -> Result<Vec<Option<Vec<u8>>>, ParquetError> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (rows, ..) = self
            .reader
            .read_records(most, Some(&mut levels), None, &mut values)?;
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

/// An error of the reader.
pub fn unread(path: &Path, error: &ParquetError) -> DataError {
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
