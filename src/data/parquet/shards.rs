//! Which files of a folder belong to which part of a data set.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;

/// What the files of each part may be called, before a `-` and numbers: to train on, to validate on, to test with.
const PARTS: [&[&str]; 3] = [&["train"], &["validation", "val", "valid"], &["test"]];
/// Where hubs put the files of a data set.
const INNER: &str = "data";
const ENDING: &str = "parquet";

/// The files of each part, by name.
pub struct Shards {
    pub parts: [Option<Vec<PathBuf>>; 3],
}

impl Shards {
    /// Those in `folder`, or if it has none, in the folder `data` in it.
    pub fn of(folder: &Path) -> Result<Self, DataError> {
        let mut files = parquet_files(folder)?;
        let inner = folder.join(INNER);
        if files.is_empty() && inner.is_dir() {
            files = parquet_files(&inner)?;
        }
        files.sort();
        let mut parts = [const { None }; 3];
        let mut others = Vec::new();
        for file in files {
            match part_of(&file) {
                Some(part) => parts[part].get_or_insert_with(Vec::new).push(file),
                None => others.push(file),
            }
        }
        if let Some(first) = others.first() {
            log::warn!(
                "{}: {} Parquet files are left out, as they are called neither train-*, validation-* nor test-*; the first \
                 is {}",
                folder.display(),
                others.len(),
                first.display()
            );
        }
        match parts[0] {
            Some(_) => Ok(Self { parts }),
            None => Err(DataError::Folder {
                path: folder.to_owned(),
                expected: "files train-*.parquet, in it or in the folder `data` in it".to_owned(),
                got: "none".to_owned(),
            }),
        }
    }
}

/// The Parquet files in `folder`, in any order.
fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut files = read().map_err(DataError::io("read the folder", folder))?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == ENDING) && !path.is_dir());
    Ok(files)
}

/// The part that the file at `path` belongs to, by its name: `train.parquet` or `train-00000-of-00002.parquet`.
fn part_of(path: &Path) -> Option<usize> {
    let name = path.file_stem().and_then(OsStr::to_str)?;
    let (part, _) = name.split_once('-').unwrap_or((name, ""));
    PARTS.iter().position(|names| names.contains(&part))
}
