//! CIFAR-10: 50,000 training and 10,000 test images.

use std::path::{Path, PathBuf};

use crate::data::dataset::{Dataset, DatasetSpec, Split};
use crate::data::error::DataError;
use crate::data::fetch;
use crate::data::fetch::official::{OfficialFile, TRAIN_FILES};
use crate::data::records::{CLASSES, Records, SIDE};

/// The class names, by label.
const CLASS_NAMES: [&str; CLASSES] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// The spec of CIFAR-10, and of any part of it.
pub fn spec() -> DatasetSpec {
    DatasetSpec {
        side: SIDE,
        class_names: CLASS_NAMES.map(str::to_owned).into(),
    }
}

/// Loads the official files from `data_dir`, downloading them on first use, and verifies them.
pub(super) fn load(data_dir: &Path) -> Result<Dataset, DataError> {
    let files = fetch::locate_or_fetch(data_dir)?;
    let (train, test) = files.split_at(TRAIN_FILES);
    Ok(Dataset {
        name: "cifar10".to_string(),
        spec: spec(),
        train: read_official(train)?,
        validation: None,
        test: read_official(test)?,
        stratified: false,
    })
}

/// Reads official files into one split, in order.
fn read_official(files: &[(OfficialFile, PathBuf)]) -> Result<Split, DataError> {
    let mut records = Records::with_capacity(files.len() * OfficialFile::RECORDS);
    for (file, path) in files {
        records.append(path, &file.read_verified(path)?)?;
    }
    Ok(records.into_split())
}
