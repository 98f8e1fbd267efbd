//! From images on disk to normalised, augmented batches in memory.
//!
//! ```text
//!  cifar ◄── fetch (found, or fetched and verified)
//!  sample    (inside the program)          ──► Dataset ──► pipeline ──► batches on time
//!    └─ records: the binary format              picture: a file of the user's ──► one image
//! ```
//!
//! A data set is one file here and one line in [`DatasetKind`] and [`load`].
//!
//! The embedded sample (`assets/sample/`) was made by
//! `cargo run --release --example make_sample -- DATA_DIR OUT_DIR`.

mod cifar;
mod dataset;
mod error;
pub(crate) mod fetch;
pub mod picture;
pub(crate) mod pipeline;
mod records;
mod sample;
#[cfg(test)]
mod test_split;

use std::path::{Path, absolute};

pub use dataset::{CHANNELS, CLASS_NAMES, CLASSES, Dataset, IMAGE_LEN, SIDE, Split};
pub use error::DataError;
pub use pipeline::augment::{Augment, Fill, Transform};
pub use pipeline::batches::{Batch, BatchSource, TrainingOptions};
pub use pipeline::normalization::Normalization;
pub use pipeline::order::epoch_order;
pub use pipeline::prefetch::Batches;
pub use records::{RECORD_LEN, parse_records, write_record};

/// Where the files of CIFAR-10 are, unless said otherwise.
pub const DEFAULT_FOLDER: &str = "data";

/// Which dataset to load.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DatasetKind {
    /// CIFAR-10: 50,000 training and 10,000 test images
    Cifar10,
    /// the subset inside the program: 2,000 training and 500 test images
    Sample,
}

/// Loads a dataset. The official files are looked for in `data_dir`, fetched into it on first use, and verified
/// on every load.
///
/// # Errors
///
/// A file that cannot be read, fetched or verified.
pub fn load(kind: DatasetKind, data_dir: &Path) -> Result<Dataset, DataError> {
    match kind {
        DatasetKind::Cifar10 => cifar::load(data_dir),
        DatasetKind::Sample => sample::load(),
    }
}

/// [`load`] for a run that worked on the data in `data_dir` before.
///
/// # Errors
///
/// [`DataError::Gone`] where the folder is no longer there: it is not made anew and filled, which may be on
/// another disk, unless it is the one that is used without being named.
pub fn load_again(kind: DatasetKind, data_dir: &Path) -> Result<Dataset, DataError> {
    let is_default = absolute(DEFAULT_FOLDER).is_ok_and(|folder| folder == data_dir);
    let is_gone = data_dir.is_absolute() && !data_dir.is_dir() && !is_default;
    if kind == DatasetKind::Cifar10 && is_gone {
        return Err(DataError::Gone {
            folder: data_dir.to_owned(),
        });
    }
    load(kind, data_dir)
}
