//! Parquet files with pictures and labels, as hubs have them: `train-*.parquet`, with `validation-*.parquet` or
//! `test-*.parquet` or both, in a folder or in the folder `data` in it.
//!
//! ```text
//!  shards: which files there are ─► columns: labels, names of classes ─► rows: pictures, a few at a time ─► collection
//! ```
//!
//! The images are in the order of the files' names, and of the rows.

mod class_names;
mod columns;
mod rows;
mod shards;

use std::path::{Path, PathBuf};

use crate::data::PictureOptions;
use crate::data::collection::{self, Collection};
use crate::data::dataset::Dataset;
use crate::data::error::DataError;
use crate::data::room::Room;
use columns::Table;
use rows::{Rows, Shard};
use shards::Shards;

/// What is kept of a row besides its image.
const BYTES_OF_A_ROW: u64 = 224;

/// Loads all pictures as images of `options.side` rows and columns.
pub(super) fn load(folder: &Path, options: PictureOptions) -> Result<Dataset, DataError> {
    let (collection, rows) = open(folder)?;
    collection::load(collection, rows, options)
}

/// The number of pictures in `folder`, all read, none decoded.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_all(folder: &Path) -> Result<usize, DataError> {
    let (_collection, mut rows) = open(folder)?;
    rows.try_fold(0, |number, row| row.map(|_| number + 1))
}

/// The labels and names in `folder`, and its pictures, not yet read.
fn open(folder: &Path) -> Result<(Collection<'_>, Rows), DataError> {
    let parts = Shards::of(folder)?.parts;
    let mut room = Room::of(folder, "take fewer files");
    let mut names: Option<(PathBuf, Vec<String>)> = None;
    let mut labels = [const { None }; 3];
    let mut shards = Vec::new();
    for (paths, part) in parts.iter().zip(&mut labels) {
        for path in paths.iter().flatten() {
            let table = Table::open(path)?;
            room.take(table.rows().saturating_mul(BYTES_OF_A_ROW))?;
            if let Some(own) = table.class_names() {
                match &names {
                    None => names = Some((path.clone(), own)),
                    Some((first, known)) if own != *known => {
                        return Err(DataError::Folder {
                            path: path.clone(),
                            expected: format!("the class names of {}", first.display()),
                            got: "others".to_owned(),
                        });
                    }
                    Some(_) => {}
                }
            }
            let own = table.labels()?;
            shards.push(Shard {
                path: path.clone(),
                rows: own.len(),
            });
            part.get_or_insert_with(Vec::new).extend(own);
        }
    }
    let names = names.map(|(_, names)| names);
    let (labels, class_names) = class_names::check(&shards, labels, names)?;
    let collection = Collection {
        name: "parquet",
        folder,
        class_names,
        labels,
        files: shards.iter().map(|shard| shard.path.clone()).collect(),
    };
    Ok((collection, Rows::of(shards)))
}

#[cfg(test)]
mod tests;
