//! CIFAR-10 and its binary format.
//!
//! A file is a row of records without header: one label byte, then 3,072 pixel bytes, the red plane first, then green,
//! then blue, each 32 rows of 32 (the "binary version" described on the CIFAR-10 home page).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use byteorder::{ReadBytesExt, WriteBytesExt};
use ndarray::{Array1, Array4, ArrayView3, ArrayViewMut1, ArrayViewMut4, Axis, s};

use super::error::DataError;
use super::fetch::{self, OfficialFile};
use super::sample;

/// Rows and columns of an image.
pub const SIDE: usize = 32;
/// Red, green and blue.
pub const CHANNELS: usize = 3;
/// Values of one image.
pub const IMAGE_LEN: usize = SIDE * SIDE * CHANNELS;
/// Bytes of one record: a label and an image.
pub const RECORD_LEN: usize = 1 + IMAGE_LEN;
/// Number of classes; labels run from 0 to `CLASSES - 1`.
pub const CLASSES: usize = 10;

/// The class names, by label.
pub const CLASS_NAMES: [&str; CLASSES] = [
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

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `[N, 32, 32, 3]` (NHWC), in standard (row-major) layout.
    pub images: Array4<u8>,
    /// `[N]`, each below [`CLASSES`].
    pub labels: Array1<u8>,
}

impl Split {
    /// `count` black images with label 0.
    fn zeros(count: usize) -> Split {
        Split {
            images: Array4::zeros((count, SIDE, SIDE, CHANNELS)),
            labels: Array1::zeros(count),
        }
    }

    /// The images' pixels, one array each.
    pub fn pixels(&self) -> &[[u8; IMAGE_LEN]] {
        // The images are in standard layout, as promised above.
        let pixels = self.images.as_slice().expect("standard layout");
        pixels.as_chunks().0
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A training and a test split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub train: Split,
    pub test: Split,
}

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
        DatasetKind::Cifar10 => load_cifar10(data_dir),
        DatasetKind::Sample => sample::load(),
    }
}

fn load_cifar10(data_dir: &Path) -> Result<Dataset, DataError> {
    let files = fetch::locate_or_fetch(data_dir)?;
    let (train, test) = files.split_at(fetch::TRAIN_FILES);
    Ok(Dataset {
        name: "cifar10".to_string(),
        train: read_official(train)?,
        test: read_official(test)?,
    })
}

/// Reads official files, one after the other, into one split.
fn read_official(files: &[(OfficialFile, PathBuf)]) -> Result<Split, DataError> {
    const RECORDS: usize = OfficialFile::RECORDS;
    let mut split = Split::zeros(files.len() * RECORDS);
    for (index, (file, path)) in files.iter().enumerate() {
        let records = index * RECORDS..(index + 1) * RECORDS;
        read_records(
            path,
            &file.read_verified(path)?,
            split.images.slice_mut(s![records.clone(), .., .., ..]),
            split.labels.slice_mut(s![records]),
        )?;
    }
    Ok(split)
}

/// Parses the content of one file of any number of records. `file` is for error messages.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Split, DataError> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD_LEN) {
        return Err(DataError::Records {
            file: file.to_path_buf(),
            record_len: RECORD_LEN,
            got: bytes.len(),
        });
    }
    let mut split = Split::zeros(bytes.len() / RECORD_LEN);
    read_records(
        file,
        bytes,
        split.images.view_mut(),
        split.labels.view_mut(),
    )?;
    Ok(split)
}

/// Reads as many records as `labels` has places: `images` is `[N, 32, 32, 3]`, `labels` `[N]`.
fn read_records(
    file: &Path,
    mut bytes: &[u8],
    mut images: ArrayViewMut4<u8>,
    mut labels: ArrayViewMut1<u8>,
) -> Result<(), DataError> {
    let places = images.outer_iter_mut().zip(labels.iter_mut());
    for (record, (mut image, label)) in places.enumerate() {
        *label = bytes.read_u8().map_err(DataError::io("read", file))?;
        if usize::from(*label) >= CLASSES {
            return Err(DataError::Label {
                file: file.to_path_buf(),
                record,
                got: *label,
            });
        }
        for mut channel in image.axis_iter_mut(Axis(2)) {
            let mut plane = [0; SIDE * SIDE];
            bytes
                .read_exact(&mut plane)
                .map_err(DataError::io("read", file))?;
            for (value, byte) in channel.iter_mut().zip(plane) {
                *value = byte;
            }
        }
    }
    Ok(())
}

/// Writes one record; `image` is `[32, 32, 3]`.
pub fn write_record(out: &mut impl Write, label: u8, image: ArrayView3<u8>) -> io::Result<()> {
    out.write_u8(label)?;
    for channel in image.axis_iter(Axis(2)) {
        let plane: Vec<u8> = channel.iter().copied().collect();
        out.write_all(&plane)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "some.bin";

    /// Image `n` has the label `n` and the values `n, n + 1, …` modulo 251 in file order.
    fn records(count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|n| {
                let values = (0..IMAGE_LEN).map(move |k| ((n + k) % 251) as u8);
                std::iter::once(n as u8).chain(values)
            })
            .collect()
    }

    #[test]
    fn planes_become_channels() {
        let split = parse(Path::new(FILE), &records(3)).unwrap();
        assert_eq!(split.images.shape(), [3, 32, 32, 3]);
        assert_eq!(split.labels.to_vec(), [0, 1, 2]);
        // Image 2, row 4, column 7, blue: byte 2 * 1024 + 4 * 32 + 7 of the pixels, 2183 + 2 = 8 * 251 + 177.
        assert_eq!(split.images[[2, 4, 7, 2]], 177);
    }

    #[test]
    fn a_file_that_ends_inside_a_record_is_refused_with_its_size() {
        let bytes = records(2);
        let error = parse(Path::new(FILE), &bytes[..6145]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "some.bin: expected one or more records of 3073 bytes, got 6145 bytes"
        );
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(matches!(
            parse(Path::new(FILE), &[]),
            Err(DataError::Records { got: 0, .. })
        ));
    }

    #[test]
    fn a_label_of_ten_is_refused_with_its_record() {
        let mut bytes = records(2);
        bytes[RECORD_LEN] = 10;
        assert_eq!(
            parse(Path::new(FILE), &bytes).unwrap_err().to_string(),
            "some.bin: record 1: expected a label from 0 to 9, got 10"
        );
    }

    proptest! {
        #[test]
        fn bytes_of_any_length_are_parsed_or_refused(
            length in 0..4 * RECORD_LEN,
            labels in prop::collection::vec(0..13u8, 4),
        ) {
            let mut bytes = vec![200; length];
            for (record, label) in bytes.chunks_mut(RECORD_LEN).zip(&labels) {
                record[0] = *label;
            }
            let count = length / RECORD_LEN;
            let valid = count > 0
                && length % RECORD_LEN == 0
                && labels[..count].iter().all(|label| *label < 10);
            match parse(Path::new(FILE), &bytes) {
                Ok(split) => {
                    prop_assert!(valid);
                    prop_assert_eq!(split.labels.to_vec(), &labels[..count]);
                }
                Err(_) => prop_assert!(!valid),
            }
        }

        #[test]
        fn what_is_parsed_is_written_back_byte_for_byte(
            label in 0..10u8,
            pixels in prop::collection::vec(any::<u8>(), IMAGE_LEN),
        ) {
            let bytes: Vec<u8> = std::iter::once(label).chain(pixels).collect();
            let split = parse(Path::new(FILE), &bytes).unwrap();
            let mut written = Vec::new();
            let image = split.images.index_axis(Axis(0), 0);
            write_record(&mut written, split.labels[0], image).unwrap();
            prop_assert_eq!(written, bytes);
        }
    }
}
