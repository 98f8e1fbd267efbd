//! CIFAR-10: 50,000 training and 10,000 test images of ten classes.

use std::path::Path;

use crate::data::dataset::{Dataset, DatasetSpec};
use crate::data::error::DataError;
use crate::data::fetch::official::CIFAR_10;
use crate::data::fetch::read_official;
use crate::data::records::{Format, SIDE};

/// The class names, by label.
const CLASS_NAMES: [&str; 10] = [
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
    let [train, test] = read_official(&CIFAR_10, Format::CIFAR_10, data_dir)?;
    Ok(Dataset {
        name: "cifar10".to_string(),
        spec: spec(),
        train,
        validation: None,
        test,
        stratified: false,
        sum: None,
    })
}
