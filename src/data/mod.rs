//! From images on disk to normalised, augmented batches in memory.
//!
//! ```text
//!  cifar, cifar100 ◄── fetch (found, or fetched and verified)
//!  sample    (inside the program)          ──► Dataset ──► pipeline ──► batches on time
//!    └─ records: the binary format
//!  folder ◄── picture: a file of a user ──► one image
//!  parquet ◄── picture, likewise: shards of a hub
//!    └─ collection: many pictures on worker threads, in memory or in a cache file
//!  npz       (arrays of NumPy)
//! ```
//!
//! A run divides a data set into images for training and for validation (`validation`).
//!
//! A data set is one file here and one line in each of [`DatasetKind`], [`load`] and [`known_spec`].
//! [`check_spec`] defines which image sizes and classes it may have.
//!
//! The embedded sample (`assets/sample/`) was made by
//! `cargo run --release --example make_sample -- DATA_DIR OUT_DIR`.

mod cifar;
mod cifar100;
mod collection;
mod dataset;
mod error;
pub(crate) mod fetch;
mod folder;
mod images;
mod npz;
pub(crate) mod parquet;
pub mod picture;
pub(crate) mod pipeline;
pub(crate) mod progress;
mod records;
mod room;
mod sample;
mod sums;
#[cfg(test)]
mod test_split;
mod validation;

use std::path::{Path, PathBuf, absolute};

pub use cifar::spec as cifar10_spec;
pub use cifar100::{Groups, groups, spec as cifar100_spec};
pub use collection::{DECODED_IMAGES, Size};
pub use dataset::{CHANNELS, Dataset, DatasetSpec, Split};
pub use error::DataError;
pub use images::Images;
pub use npz::npy_header;
pub use pipeline::augment::{Augment, Fill, Transform};
pub use pipeline::batches::{Batch, BatchSource, TrainingOptions};
pub use pipeline::check_spec;
pub use pipeline::cutout::Cutout;
pub use pipeline::mix::{Mix, Mixed};
pub use pipeline::normalization::Normalization;
pub use pipeline::order::epoch_order;
pub use pipeline::prefetch::Batches;
pub use pipeline::resample::Resampler;
pub use pipeline::views::{Tta, View};
pub use records::{RECORD_LEN, parse_records, write_record};
pub use sums::Sums;
pub use validation::{HeldOut, RunImages, Validation};

/// The default folder of the files of CIFAR-10 and CIFAR-100.
pub const DEFAULT_FOLDER: &str = "data";

/// Which data set to load.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DatasetKind {
    /// CIFAR-10: 50,000 training and 10,000 test images
    Cifar10,
    /// the subset inside the program: 2,000 training and 500 test images
    Sample,
    /// CIFAR-100: 50,000 training and 10,000 test images of a hundred classes
    Cifar100,
    /// your pictures: a folder with a folder for each class
    Folder,
    /// your NumPy arrays: an .npz file with x_train, y_train, x_test and y_test
    Npz,
    /// your Parquet files, as hubs have them: a folder with train-*.parquet, and validation-*.parquet or test-*.parquet
    Parquet,
}

impl DatasetKind {
    /// Whether it has pictures of any size, which become images by [`PictureOptions`].
    pub fn has_pictures(self) -> bool {
        matches!(self, Self::Folder | Self::Parquet)
    }

    /// Whether it is the user's own, and cannot be fetched.
    pub fn is_yours(self) -> bool {
        matches!(self, Self::Folder | Self::Npz | Self::Parquet)
    }
}

/// How pictures of any size become images; other data sets have images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureOptions {
    /// Rows and columns of the images.
    pub side: usize,
    /// Whether pictures that cannot be read are left out instead of refused.
    pub skip_bad: bool,
    /// More bytes of images than this go to a cache file; `None`: more than three quarters of the free memory.
    pub cache_memory: Option<Size>,
    /// The folder of the cache file: [`DECODED_IMAGES`] next to a run. `None`, or if nothing can be written there: in the
    /// user's cache.
    pub cache_folder: Option<PathBuf>,
}

impl Default for PictureOptions {
    fn default() -> Self {
        Self {
            side: 32,
            skip_bad: false,
            cache_memory: None,
            cache_folder: None,
        }
    }
}

/// The image size and the classes of a data set that always has the same; those of others are known once they are loaded.
pub fn known_spec(kind: DatasetKind) -> Option<DatasetSpec> {
    match kind {
        DatasetKind::Cifar10 | DatasetKind::Sample => Some(cifar::spec()),
        DatasetKind::Cifar100 => Some(cifar100::spec()),
        DatasetKind::Folder | DatasetKind::Npz | DatasetKind::Parquet => None,
    }
}

/// Loads a data set. The official files are looked for in `data_dir`, downloaded there on first use, and verified
/// on every load.
///
/// # Errors
///
/// A file that cannot be read, fetched or verified; images or classes that the program does not take.
pub fn load(
    kind: DatasetKind,
    data_dir: &Path,
    options: PictureOptions,
) -> Result<Dataset, DataError> {
    let dataset = match kind {
        DatasetKind::Cifar10 => cifar::load(data_dir),
        DatasetKind::Sample => sample::load(),
        DatasetKind::Cifar100 => cifar100::load(data_dir),
        DatasetKind::Folder => folder::load(data_dir, options),
        DatasetKind::Npz => npz::load(data_dir),
        DatasetKind::Parquet => parquet::load(data_dir, options),
    }?;
    check_spec(&dataset.spec).map_err(|reason| DataError::Unfit {
        path: data_dir.to_owned(),
        reason: format!("the data set has {reason}"),
    })?;
    Ok(dataset)
}

/// [`load`] for a resumed run that used the data in `data_dir`.
///
/// # Errors
///
/// [`DataError::Gone`] if the folder no longer exists: it may be on a disk that is not mounted, so it is not
/// created and filled again, unless it is the default folder.
pub fn load_again(
    kind: DatasetKind,
    data_dir: &Path,
    options: PictureOptions,
) -> Result<Dataset, DataError> {
    let is_default = absolute(DEFAULT_FOLDER).is_ok_and(|folder| folder == data_dir);
    let is_gone = data_dir.is_absolute() && !data_dir.is_dir() && !is_default;
    let is_fetched = matches!(kind, DatasetKind::Cifar10 | DatasetKind::Cifar100);
    if is_fetched && is_gone {
        return Err(DataError::Gone {
            folder: data_dir.to_owned(),
        });
    }
    load(kind, data_dir, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_data_set_is_as_its_spec_says_and_the_pipeline_takes_it() {
        let Dataset {
            spec, train, test, ..
        } = load(
            DatasetKind::Sample,
            Path::new(""),
            PictureOptions::default(),
        )
        .unwrap();
        assert_eq!(spec, cifar10_spec());
        assert_eq!(known_spec(DatasetKind::Sample), Some(cifar10_spec()));
        assert_eq!(check_spec(&spec), Ok(()));
        for split in [train, test] {
            assert_eq!(split.images.dim(), (split.len(), spec.side, spec.side, 3));
            assert_eq!(split.image(split.len() - 1).len(), spec.image_len());
            let largest = split.labels.iter().max().copied();
            assert_eq!(largest.map(usize::from), Some(spec.classes() - 1));
        }
    }

    #[test]
    fn cifar_10_has_the_classes_of_its_home_page() {
        let spec = cifar10_spec();
        assert_eq!((spec.side, spec.image_len()), (32, 3072));
        // batches.meta.txt of the official archive.
        let names = "airplane automobile bird cat deer dog frog horse ship truck";
        assert_eq!(spec.class_names.join(" "), names);
    }
}
