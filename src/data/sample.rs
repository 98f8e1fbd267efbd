//! The subset of CIFAR-10 embedded in the program: the first 200 training and the first 50 test images of each class,
//! in the order of the official files.

use std::path::Path;

use crate::data::cifar;
use crate::data::dataset::Dataset;
use crate::data::error::DataError;
use crate::data::records::parse_records;
use crate::system::embedded::unpacked;

const TRAIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/train.bin.zlib"));
const TEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/test.bin.zlib"));

pub(super) fn load() -> Result<Dataset, DataError> {
    Ok(Dataset {
        name: "sample".to_string(),
        spec: cifar::spec(),
        train: parse_records(Path::new("assets/sample/train.bin"), &unpacked(TRAIN))?,
        validation: None,
        test: parse_records(Path::new("assets/sample/test.bin"), &unpacked(TEST))?,
        stratified: false,
        sum: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::sha256;

    #[test]
    fn the_files_are_the_first_records_of_each_class_of_cifar_10() {
        // Checksums of the same selection, made with numpy from the official files.
        assert_eq!(
            sha256::sum(&unpacked(TRAIN)),
            "85e1bcd937bff4e1a96822ecf457c7d8b520eb14496e76876f04aadd1e5205d3"
        );
        assert_eq!(
            sha256::sum(&unpacked(TEST)),
            "6fc53f55aebe522d5b1a105c0044983a34f86c60436887ec8a0c4a68c093078a"
        );
    }

    #[test]
    fn every_class_has_200_training_and_50_test_images() {
        let dataset = load().unwrap();
        for (split, expected) in [(dataset.train, 200), (dataset.test, 50)] {
            let mut counts = [0; 10];
            for label in split.labels {
                counts[usize::from(label)] += 1;
            }
            assert_eq!(counts, [expected; 10]);
        }
    }
}
