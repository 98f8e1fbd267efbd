//! tests/fixtures/make_parquet_fixtures.py has written the files.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::data::Split;

const PICTURES: PictureOptions = PictureOptions {
    side: 4,
    skip_bad: false,
    cache_memory: None,
    cache_folder: None,
};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    folder.join(name)
}

/// The numbers of the pictures that images are of, and their labels: value i of picture k is (40k + 5i) mod 251.
fn numbers(split: &Split) -> Vec<(u64, u16)> {
    let number = |image: &[u8]| {
        let is_of = |number: &u64| {
            let expected = (0..48).map(|i| ((40 * number + 5 * i) % 251) as u8);
            expected.eq(image.iter().copied())
        };
        (0..8).find(is_of).unwrap()
    };
    let images = split.pixels().map(number);
    images.zip(split.labels.iter().copied()).collect()
}

#[test]
fn the_files_of_a_hub_are_read_in_the_order_of_names_and_rows_with_their_class_names() {
    let set = load(&fixture("hub"), PICTURES).unwrap();
    assert_eq!(set.spec.class_names, ["cat", "dog", "owl"]);
    let train = [(0, 0), (1, 1), (2, 2), (3, 1), (4, 0), (5, 2)];
    assert_eq!(numbers(&set.train), train);
    assert_eq!(numbers(&set.test), [(7, 1), (6, 2)]);
    assert!(set.validation.is_none() && set.stratified);
}

#[test]
fn other_names_of_columns_narrow_labels_and_no_class_names_are_fine() {
    let set = load(&fixture("plain"), PICTURES).unwrap();
    assert_eq!(set.spec.class_names, ["0", "1"]);
    assert_eq!(numbers(&set.train), [(0, 0), (1, 1), (2, 1)]);
    assert_eq!(numbers(&set.validation.unwrap()), [(3, 0)]);
    assert!(set.test.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused_with_the_file() {
    let columns = "expected a column";
    for (name, expected) in [
        (
            "cut/train-0.parquet",
            "cannot read the Parquet file: ".to_owned(),
        ),
        (
            "no_image/train-0.parquet",
            format!(
                "{columns} `image` or `img` of bytes, or of a struct with `bytes` in it, got the columns photo.bytes, \
                     photo.path, label"
            ),
        ),
        (
            "no_label/train-0.parquet",
            format!(
                "{columns} `label` or `fine_label` of whole numbers, got the columns image.bytes, image.path, kind"
            ),
        ),
        (
            "null_label/train-0.parquet",
            "row 1: expected a label, got null".to_owned(),
        ),
        (
            "large_label/train-0.parquet",
            "row 1: expected a label from 0 to 2, got 3".to_owned(),
        ),
        (
            "negative_label/train-0.parquet",
            "row 1: expected a label from 0 to 2, got -1".to_owned(),
        ),
        (
            "text_label/train-0.parquet",
            "the column `label`: expected whole numbers, got BYTE_ARRAY".to_owned(),
        ),
        (
            "zstd/train-0.parquet",
            "write it with the compression snappy, gzip or none".to_owned(),
        ),
        (
            "other_names/train-1.parquet",
            "expected the class names of ".to_owned(),
        ),
        ("absent", "cannot read the folder ".to_owned()),
    ] {
        let path = fixture(name);
        let folder = path
            .ancestors()
            .find(|path| path.extension().is_none())
            .unwrap();
        let error = load(folder, PICTURES).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{name}: {error}");
        assert!(error.contains(&expected), "{name}: {error}");
    }
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("training.parquet"), "").unwrap();
    let error = load(empty.path(), PICTURES).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "expected files train-*.parquet, in it or in the folder `data` in it, got none"
        ),
        "{error}"
    );
}

#[test]
fn a_row_without_bytes_is_a_picture_that_cannot_be_read() {
    let folder = fixture("null_bytes");
    let error = load(&folder, PICTURES).unwrap_err().to_string();
    assert!(
        error.contains("1 of 3 pictures could not be read"),
        "{error}"
    );
    let skip = PictureOptions {
        skip_bad: true,
        ..PICTURES
    };
    // The only owl is gone.
    let error = load(&folder, skip).unwrap_err().to_string();
    assert!(
        error.contains("a picture of the class \"owl\" that can be read, got none"),
        "{error}"
    );
}

#[test]
fn no_damaged_byte_makes_the_reader_panic_or_read_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(fixture("hub/data/train-00001-of-00002.parquet")).unwrap();
    let path = folder.path().join("train-0.parquet");
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            // Whether it is found is up to the file: a letter of a class's name may well be another one.
            let _ = load(folder.path(), PICTURES);
        }
    }
}
