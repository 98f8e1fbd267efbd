//! The binary format of CIFAR-10 and CIFAR-100.
//!
//! A file is a sequence of records without a header: one label byte (CIFAR-100: two, of which the second is read), then
//! 3,072 pixel bytes: the red plane, then the green, then the blue, each 32 rows of 32 (the "binary version" described
//! on the home page).

use std::io::{self, Write};
use std::path::Path;

use byteorder::WriteBytesExt;
use multiversion::multiversion;
use ndarray::{ArrayView3, Axis};

use crate::data::dataset::{CHANNELS, Split};
use crate::data::error::DataError;

/// Rows and columns of an image.
pub(super) const SIDE: usize = 32;
/// The number of values in one image.
const IMAGE_LEN: usize = SIDE * SIDE * CHANNELS;

/// Bytes of one record of CIFAR-10: a label and an image.
pub const RECORD_LEN: usize = 1 + IMAGE_LEN;

/// What differs between the two data sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// Bytes before the pixels. The last of them is the label.
    label_bytes: usize,
    /// Labels are 0 to `classes - 1`.
    classes: u8,
}

impl Format {
    pub(super) const CIFAR_10: Format = Format {
        label_bytes: 1,
        classes: 10,
    };
    /// First the label of one of 20 groups of classes, then that of the class.
    pub(super) const CIFAR_100: Format = Format {
        label_bytes: 2,
        classes: 100,
    };

    /// Bytes of one record.
    pub(super) const fn record_len(self) -> usize {
        self.label_bytes + IMAGE_LEN
    }
}

/// Parses the content of a file with any number of records of CIFAR-10. `file` is for error messages.
///
/// # Errors
///
/// No record, an incomplete record, or an invalid label.
pub fn parse_records(file: &Path, bytes: &[u8]) -> Result<Split, DataError> {
    let mut records = Records::with_room(Format::CIFAR_10, bytes.len() / RECORD_LEN);
    let mut parts = records.parts(&[bytes.len() / RECORD_LEN]);
    for part in &mut parts {
        part.append(file, bytes)?;
    }
    Ok(records.into_split())
}

/// Images with their labels, all 0 until they are read.
pub(super) struct Records {
    format: Format,
    /// One image after another. Flat, because the system itself gives zeros to a vector of bytes: whoever reads an image
    /// is the first to touch its memory.
    images: Vec<u8>,
    labels: Vec<u16>,
}

/// Room for some of the [`Records`], as those of a file.
pub(super) struct Part<'a> {
    format: Format,
    images: &'a mut [[u8; IMAGE_LEN]],
    labels: &'a mut [u16],
    /// Records that were read so far.
    read: usize,
}

impl Records {
    pub(super) fn with_room(format: Format, count: usize) -> Records {
        Records {
            format,
            images: vec![0; count * IMAGE_LEN],
            labels: vec![0; count],
        }
    }

    /// Room for each of `counts` records, one part behind the other.
    ///
    /// # Panics
    /// When they are more than there is room for.
    pub(super) fn parts(&mut self, counts: &[usize]) -> Vec<Part<'_>> {
        let mut images: &mut [[u8; IMAGE_LEN]] = self.images.as_chunks_mut().0;
        let mut labels = &mut self.labels[..];
        let mut parts = Vec::new();
        for &count in counts {
            let (own_images, own_labels);
            (own_images, images) = images.split_at_mut(count);
            (own_labels, labels) = labels.split_at_mut(count);
            parts.push(Part {
                format: self.format,
                images: own_images,
                labels: own_labels,
                read: 0,
            });
        }
        parts
    }

    pub(super) fn into_split(self) -> Split {
        Split::of(self.images, self.labels.into(), SIDE)
    }
}

impl Part<'_> {
    /// Reads one or more whole records, which come behind those that were read.
    ///
    /// # Errors
    ///
    /// No record, an incomplete one, more than there is room for, or an invalid label.
    pub(super) fn append(&mut self, file: &Path, bytes: &[u8]) -> Result<(), DataError> {
        let record_len = self.format.record_len();
        let room = self.images.len() - self.read;
        let count = bytes.len() / record_len;
        if count == 0 || count > room || !bytes.len().is_multiple_of(record_len) {
            return Err(DataError::Records {
                file: file.to_path_buf(),
                record_len,
                got: bytes.len(),
            });
        }
        for bytes in bytes.chunks_exact(record_len) {
            let Some(([.., label], planes)) = bytes.split_last_chunk::<IMAGE_LEN>() else {
                continue;
            };
            if *label >= self.format.classes {
                return Err(DataError::Label {
                    file: file.to_path_buf(),
                    record: self.read,
                    last: self.format.classes - 1,
                    got: *label,
                });
            }
            self.labels[self.read] = u16::from(*label);
            interleave(planes, &mut self.images[self.read]);
            self.read += 1;
        }
        Ok(())
    }
}

/// Puts the red, green and blue values of each pixel next to each other, in `image`.
#[multiversion(targets("x86_64+avx2"))]
fn interleave(planes: &[u8; IMAGE_LEN], image: &mut [u8; IMAGE_LEN]) {
    let (red, others) = planes.split_at(SIDE * SIDE);
    let (green, blue) = others.split_at(SIDE * SIDE);
    let pixels: &mut [[u8; CHANNELS]] = image.as_chunks_mut().0;
    for (index, pixel) in pixels.iter_mut().enumerate() {
        *pixel = [red[index], green[index], blue[index]];
    }
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

    /// Image `n` has label `n` and values `n, n + 1, …` modulo 251 in file order.
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
        let split = parse_records(Path::new(FILE), &records(3)).unwrap();
        assert_eq!(split.images.dim(), (3, 32, 32, 3));
        assert_eq!(split.labels.to_vec(), [0, 1, 2]);
        // Image 2, row 4, column 7, blue: byte 2 * 1024 + 4 * 32 + 7 of the pixels, 2183 + 2 = 8 * 251 + 177.
        assert_eq!(split.images.to_array()[[2, 4, 7, 2]], 177);
    }

    #[test]
    fn a_file_that_ends_inside_a_record_is_refused_with_its_size() {
        let bytes = records(2);
        let error = parse_records(Path::new(FILE), &bytes[..6145]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "some.bin: expected one or more records of 3073 bytes, got 6145 bytes"
        );
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(matches!(
            parse_records(Path::new(FILE), &[]),
            Err(DataError::Records { got: 0, .. })
        ));
    }

    #[test]
    fn a_label_of_ten_is_refused_with_its_record() {
        let mut bytes = records(2);
        bytes[RECORD_LEN] = 10;
        assert_eq!(
            parse_records(Path::new(FILE), &bytes)
                .unwrap_err()
                .to_string(),
            "some.bin: record 1: expected a label from 0 to 9, got 10"
        );
    }

    #[test]
    fn of_the_two_labels_of_a_record_of_cifar_100_the_second_is_the_class() {
        let record = |labels: [u8; 2]| [&labels[..], &records(1)[1..]].concat();
        let mut read = Records::with_room(Format::CIFAR_100, 2);
        let file = Path::new(FILE);
        // As parts of one each, the second of which is read first.
        for (part, bytes) in read
            .parts(&[1, 1])
            .iter_mut()
            .zip([[19, 99], [99, 0]])
            .rev()
        {
            part.append(file, &record(bytes)).unwrap();
        }
        let split = read.into_split();
        assert_eq!(split.labels.to_vec(), [99, 0]);
        let one = parse_records(file, &records(1)).unwrap();
        assert_eq!(split.image(1), one.image(0));

        let refused = |bytes: &[u8]| {
            let mut read = Records::with_room(Format::CIFAR_100, 1);
            read.parts(&[1])[0]
                .append(file, bytes)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(&record([0, 100])),
            "some.bin: record 0: expected a label from 0 to 99, got 100"
        );
        assert_eq!(
            refused(&records(1)),
            "some.bin: expected one or more records of 3074 bytes, got 3073 bytes"
        );
        assert!(refused(&[record([0, 1]), record([1, 2])].concat()).contains("got 6148 bytes"));
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
            match parse_records(Path::new(FILE), &bytes) {
                Ok(split) => {
                    prop_assert!(valid);
                    let expected: Vec<u16> = labels[..count].iter().map(|label| u16::from(*label)).collect();
                    prop_assert_eq!(split.labels.to_vec(), expected);
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
            let split = parse_records(Path::new(FILE), &bytes).unwrap();
            let mut written = Vec::new();
            let images = split.images.to_array();
            write_record(&mut written, bytes[0], images.index_axis(Axis(0), 0)).unwrap();
            prop_assert_eq!(written, bytes);
        }
    }
}
