//! NumPy arrays in an `.npz` file: `x_train`, `y_train`, `x_test` and `y_test`, as Keras names them.
//!
//! Images are unsigned bytes `[N, S, S, 3]`, or grey ones `[N, S, S]` or `[N, S, S, 1]`. Labels are whole numbers of any
//! type, `[N]` or `[N, 1]`, and the classes are called by them: "0", "1" and so on.
//!
//! An `.npz` file is a zip archive of `.npy` files: a `header`, then the values.

mod header;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ndarray::Array1;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::data::dataset::{CHANNELS, Dataset, DatasetSpec, Split};
use crate::data::error::DataError;
use crate::data::room::Room;
use crate::system::sha256;
use header::Header;

pub use header::npy_header;

/// No compressed byte becomes more than this many.
const MOST_OF_A_BYTE: u64 = 1032;
/// What to do when the images do not fit in memory.
const ADVICE: &str = "take fewer images";

/// Loads the arrays in the file `path`.
pub(super) fn load(path: &Path) -> Result<Dataset, DataError> {
    load_within(path, Room::of(path, ADVICE))
}

/// [`load`] into `room`.
fn load_within(path: &Path, room: Room) -> Result<Dataset, DataError> {
    let mut arrays = Arrays::open(path, room)?;
    let train = arrays.split("train")?;
    let test = arrays.split("test")?;
    let classes = classes(&train, &test).map_err(|reason| arrays.wrong(reason))?;
    Ok(Dataset {
        name: "npz".to_owned(),
        spec: DatasetSpec {
            side: train.side(),
            class_names: (0..classes).map(|class| class.to_string()).collect(),
        },
        sum: Some(sum(&[&train, &test])),
        train,
        validation: None,
        test,
        stratified: false,
    })
}

/// How many classes there are, if both parts fit each other.
fn classes(train: &Split, test: &Split) -> Result<usize, String> {
    if train.side() != test.side() {
        let (a, b) = (train.side(), test.side());
        return Err(format!(
            "expected images of one size, got {a} x {a} pixels in x_train and {b} x {b} in x_test"
        ));
    }
    let last = train.labels.iter().copied().max().map_or(0, usize::from);
    if last == 0 {
        return Err("y_train: expected labels of two or more classes, got 0 alone".to_owned());
    }
    let classes = last + 1;
    if let Some(class) = train.class_without_images(classes) {
        return Err(format!(
            "y_train: expected images of each class from 0 to {last}, got none of {class}"
        ));
    }
    if let Some((at, label)) = first(&test.labels, |label| usize::from(label) >= classes) {
        return Err(format!(
            "y_test[{at}]: expected a label from 0 to {last}, the largest of y_train, got {label}"
        ));
    }
    Ok(classes)
}

/// The first label for which `is_wrong`, and its place.
fn first(labels: &Array1<u16>, is_wrong: impl Fn(u16) -> bool) -> Option<(usize, u16)> {
    let mut found = labels.iter().copied().enumerate();
    found.find(|(_, label)| is_wrong(*label))
}

/// The sum over the labels and pixels of `splits`.
fn sum(splits: &[&Split]) -> String {
    let mut hasher = Sha256::new();
    for split in splits {
        hasher.update((split.len() as u64).to_le_bytes());
        for label in &split.labels {
            hasher.update(label.to_le_bytes());
        }
        for pixels in split.pixels() {
            hasher.update(pixels);
        }
    }
    sha256::finish(hasher)
}

/// The arrays of a file.
struct Arrays<'a> {
    path: &'a Path,
    archive: ZipArchive<BufReader<File>>,
    /// The most bytes that an array in a file of this length can have.
    longest: u64,
    room: Room<'a>,
}

impl<'a> Arrays<'a> {
    fn open(path: &'a Path, room: Room<'a>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let metadata = file.metadata().map_err(DataError::io("read", path))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| DataError::Unfit {
            path: path.to_owned(),
            reason: format!("expected an .npz file, got no zip archive ({error})"),
        })?;
        Ok(Self {
            path,
            archive,
            longest: metadata.len().saturating_mul(MOST_OF_A_BYTE),
            room,
        })
    }

    fn wrong(&self, reason: String) -> DataError {
        DataError::Unfit {
            path: self.path.to_owned(),
            reason,
        }
    }

    /// The images `x_PART` with their labels `y_PART`.
    fn split(&mut self, part: &str) -> Result<Split, DataError> {
        let (x, y) = (format!("x_{part}"), format!("y_{part}"));
        let (side, images) = self.images(&x)?;
        let labels = self.labels(&y)?;
        let count = images.len() / (side * side * CHANNELS);
        if labels.len() != count {
            let got = labels.len();
            return Err(self.wrong(format!(
                "{y}: expected {count} labels, as many as {x} has images, got {got}"
            )));
        }
        Ok(Split::of(images, labels, side))
    }

    /// Rows and columns of the images in the array `name`, and all their pixels in red, green and blue.
    fn images(&mut self, name: &str) -> Result<(usize, Vec<u8>), DataError> {
        let mut shape = (0, 0);
        let (_, values) = self.read(name, |header, bytes| {
            shape = image_shape(header)?;
            // Grey images are for a while in memory along with their three channels.
            let copies = match shape.1 {
                1 => 1 + CHANNELS as u64,
                _ => 1,
            };
            Ok(bytes.saturating_mul(copies))
        })?;
        let (side, channels) = shape;
        let values = match channels {
            1 => values.iter().flat_map(|grey| [*grey; CHANNELS]).collect(),
            _ => values,
        };
        Ok((side, values))
    }

    fn labels(&mut self, name: &str) -> Result<Array1<u16>, DataError> {
        let (header, values) = self.read(name, |header, bytes| {
            let fits = matches!(header.dims[..], [_] | [_, 1]);
            if !fits || !['i', 'u'].contains(&header.kind) {
                return Err(format!(
                    "expected whole numbers [N] or [N, 1], got {header}"
                ));
            }
            // Each becomes a `u16`.
            let count = bytes / header.size as u64;
            Ok(bytes.saturating_add(count.saturating_mul(2)))
        })?;
        let mut labels = Vec::with_capacity(values.len() / header.size);
        for (at, bytes) in values.chunks_exact(header.size).enumerate() {
            let number = header.number(bytes);
            // As many classes as a label can tell apart, less one: see `check_spec`.
            match u16::try_from(number) {
                Ok(label) if label < u16::MAX => labels.push(label),
                _ => {
                    return Err(self.wrong(format!(
                        "{name}: expected labels from 0 to 65534, got {number} as number {at}"
                    )));
                }
            }
        }
        Ok(Array1::from_vec(labels))
    }

    /// The array `name`: its header, and the bytes of its values as they are in the file. `needed` checks the header
    /// and says how much memory the array takes in all, given that of its values; nothing is read before there is room
    /// for it.
    fn read(
        &mut self,
        name: &str,
        needed: impl FnOnce(&Header, u64) -> Result<u64, String>,
    ) -> Result<(Header, Vec<u8>), DataError> {
        let wrong = |reason: String| DataError::Unfit {
            path: self.path.to_owned(),
            reason: format!("{name}: {reason}"),
        };
        let entry = self.archive.by_name(&format!("{name}.npy"));
        let mut entry = entry.map_err(|_| {
            wrong(
                "expected an array of this name beside x_train, y_train, x_test and y_test, got none"
                    .to_owned(),
            )
        })?;
        let header = Header::read(&mut entry).map_err(wrong)?;
        let expected = header.bytes();
        let expected = expected.ok_or_else(|| wrong("its dimensions are too large".to_owned()))?;
        self.room.take(needed(&header, expected).map_err(wrong)?)?;
        // A short file with a large header takes no memory for what cannot come.
        let mut values = Vec::with_capacity(expected.min(self.longest) as usize);
        let unreadable = |error: std::io::Error| wrong(format!("cannot read the array: {error}"));
        let read = entry.by_ref().take(expected).read_to_end(&mut values);
        let got = read.map_err(unreadable)? as u64;
        let got = got + entry.read(&mut [0]).map_err(unreadable)? as u64;
        if got != expected {
            return Err(wrong(format!(
                "expected {expected} bytes for {header}, got {got}, or more"
            )));
        }
        Ok((header, values))
    }
}

/// Rows or columns of the images in an array with this `header`, and their channels.
fn image_shape(header: &Header) -> Result<(usize, usize), String> {
    let is_bytes = header.kind == 'u' && header.size == 1;
    let shape = match header.dims[..] {
        [count, height, width] if count > 0 && height == width => Some((height, 1)),
        [count, height, width, channels @ (1 | CHANNELS)] if count > 0 && height == width => {
            Some((height, channels))
        }
        _ => None,
    };
    let shape = shape.filter(|(side, _)| is_bytes && *side > 0);
    shape.ok_or_else(|| {
        format!(
            "expected unsigned bytes (uint8) [N, S, S, 3], [N, S, S, 1] or [N, S, S], got {header}"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use header::MAGIC;

    /// The content of an `.npy` file.
    fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), values].concat()
    }

    #[test]
    fn a_header_of_floats_is_as_numpy_writes_it() {
        // By NumPy 2's `save` of an array of these dimensions.
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (10000, 10), }";
        let expected = [MAGIC, b"\x01\x00v\x00", format!("{text:117}\n").as_bytes()].concat();
        let header = npy_header([10000, 10]);
        assert_eq!(header, expected);
        let read = Header::read(&mut &header[..]).unwrap();
        assert_eq!(read.to_string(), "float32 [10000, 10]");
    }

    /// A small data set's arrays, but for those that `changes` has in their places; one without content is left out.
    fn file(changes: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in [
            ("x_train", npy("|u1", "(3, 4, 4, 3)", &[7; 144])),
            ("y_train", npy("|u1", "(3,)", &[0, 1, 2])),
            ("x_test", npy("|u1", "(1, 4, 4, 3)", &[9; 48])),
            ("y_test", npy("|u1", "(1,)", &[2])),
        ] {
            let change = changes.iter().find(|(changed, _)| *changed == name);
            let content = change.map_or(&content, |(_, content)| content);
            if !content.is_empty() {
                let options = SimpleFileOptions::default();
                zip.start_file(format!("{name}.npy"), options).unwrap();
                zip.write_all(content).unwrap();
            }
        }
        zip.finish().unwrap();
        (folder, path)
    }

    fn refused(name: &str, content: Vec<u8>) -> String {
        let (_folder, path) = file(&[(name, content)]);
        let error = load(&path).unwrap_err().to_string();
        let (_, reason) = error.split_once("set.npz: ").unwrap();
        reason.to_owned()
    }

    fn fixture(name: &str) -> Dataset {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/arrays");
        load(&folder.join(name)).unwrap()
    }

    #[test]
    fn arrays_that_numpy_saved_are_read_plain_and_compressed() {
        // tests/fixtures/make_npz_fixtures.py: pixel k of all is 7k mod 251; labels of various types.
        for name in ["plain.npz", "compressed.npz"] {
            let Dataset {
                spec, train, test, ..
            } = fixture(name);
            assert_eq!(
                (spec.side, spec.class_names.join(" ")),
                (5, "0 1 2 3".to_owned())
            );
            assert_eq!(train.images.dim(), (6, 5, 5, 3));
            let expected: Vec<u8> = (0..450).map(|k| (7 * k % 251) as u8).collect();
            assert_eq!(train.pixels().collect::<Vec<_>>().concat(), expected);
            assert_eq!(train.labels.to_vec(), [3, 0, 1, 2, 2, 1]);
            assert_eq!(test.labels.to_vec(), [1, 3]);
            // Grey: each value three times.
            assert_eq!(test.image(1)[..6], [175, 175, 175, 182, 182, 182]);
        }
    }

    #[test]
    fn labels_may_be_of_any_integer_type_and_end() {
        for (descr, bytes) in [
            ("|i1", vec![0, 1, 2]),
            ("<u2", vec![0, 0, 1, 0, 2, 0]),
            (">i2", vec![0, 0, 0, 1, 0, 2]),
            (
                "<i4",
                [0i32, 1, 2].iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            (
                ">u8",
                [0u64, 1, 2].iter().flat_map(|x| x.to_be_bytes()).collect(),
            ),
        ] {
            let (_folder, path) = file(&[("y_train", npy(descr, "(3, 1)", &bytes))]);
            assert_eq!(
                load(&path).unwrap().train.labels.to_vec(),
                [0, 1, 2],
                "{descr}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_array() {
        let images = "x_train: expected unsigned bytes (uint8) [N, S, S, 3], [N, S, S, 1] or [N, S, S], got ";
        for (name, content, expected) in [
            ("x_train", npy("<f4", "(3, 4, 4, 3)", &[0; 576]), format!("{images}float32 [3, 4, 4, 3]")),
            ("x_train", npy("|u1", "(3, 4, 2, 3)", &[0; 72]), format!("{images}uint8 [3, 4, 2, 3]")),
            ("x_train", npy("|u1", "(0, 4, 4, 3)", &[]), format!("{images}uint8 [0, 4, 4, 3]")),
            ("x_train", npy("|u1", "(3, 4, 4, 4)", &[0; 192]), format!("{images}uint8 [3, 4, 4, 4]")),
            (
                "x_test",
                npy("|u1", "(1, 2, 2, 3)", &[0; 12]),
                "expected images of one size, got 4 x 4 pixels in x_train and 2 x 2 in x_test".to_owned(),
            ),
            (
                "y_train",
                npy("|i1", "(3,)", &[0, 255, 1]),
                "y_train: expected labels from 0 to 65534, got -1 as number 1".to_owned(),
            ),
            (
                "y_train",
                npy("<u8", "(3,)", &[255; 24]),
                "y_train: expected labels from 0 to 65534, got 18446744073709551615 as number 0".to_owned(),
            ),
            (
                "y_train",
                npy("|u1", "(2,)", &[0, 1]),
                "y_train: expected 3 labels, as many as x_train has images, got 2".to_owned(),
            ),
            (
                "y_train",
                npy("|u1", "(3, 2)", &[0; 6]),
                "y_train: expected whole numbers [N] or [N, 1], got uint8 [3, 2]".to_owned(),
            ),
            (
                "y_train",
                npy("|u1", "(3,)", &[0; 3]),
                "y_train: expected labels of two or more classes, got 0 alone".to_owned(),
            ),
            (
                "y_train",
                npy("|u1", "(3,)", &[0, 3, 1]),
                "y_train: expected images of each class from 0 to 3, got none of 2".to_owned(),
            ),
            (
                "y_test",
                npy("|u1", "(1,)", &[3]),
                "y_test[0]: expected a label from 0 to 2, the largest of y_train, got 3".to_owned(),
            ),
            (
                "y_test",
                Vec::new(),
                "y_test: expected an array of this name beside x_train, y_train, x_test and y_test, got none".to_owned(),
            ),
            (
                "x_test",
                npy("|u1", "(9, 4, 4, 3)", &[0; 48]),
                "x_test: expected 432 bytes for uint8 [9, 4, 4, 3], got 48, or more".to_owned(),
            ),
            (
                "x_test",
                npy("|u1", "(4294967296, 4294967296, 4294967296, 3)", &[]),
                "x_test: its dimensions are too large".to_owned(),
            ),
            ("x_test", b"not an array".to_vec(), "x_test: expected a NumPy array, got something else".to_owned()),
        ] {
            assert_eq!(refused(name, content), expected);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.npz");
        std::fs::write(&path, "no archive").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(
            error.contains("expected an .npz file, got no zip archive"),
            "{error}"
        );
    }

    #[test]
    fn all_arrays_together_must_fit_in_memory_by_what_their_headers_say() {
        let load = |changes: &[(&str, Vec<u8>)], free| {
            let (_folder, path) = file(changes);
            load_within(&path, Room::within(&path, ADVICE, Some(free)))
        };
        // 144 + 48 pixels, and 3 + 1 labels of a byte which become two: 204 bytes, three quarters of 272.
        assert!(load(&[], 272).is_ok());
        assert!(load(&[], 271).is_err());
        // Grey: 48 pixels and three times as many beside them, so 252 bytes.
        let grey = [("x_train", npy("|u1", "(3, 4, 4)", &[7; 48]))];
        assert!(load(&grey, 336).is_ok());
        assert!(load(&grey, 335).is_err());
        let many = [("y_train", npy("|u1", "(100000000000,)", &[0, 1, 2]))];
        let error = load(&many, 1 << 30).unwrap_err().to_string();
        assert!(
            error.contains("its images take 279.40 GiB of memory, and 768.00 MiB may be used"),
            "{error}"
        );
    }

    #[test]
    fn the_sum_is_of_the_labels_and_pixels_alone() {
        let sum_of = |changes: &[(&str, Vec<u8>)]| load(&file(changes).1).unwrap().sum;
        let plain = sum_of(&[]);
        // tests/fixtures/make_npz_fixtures.py saves the same arrays twice.
        assert_eq!(fixture("plain.npz").sum, fixture("compressed.npz").sum);
        assert_eq!(
            plain,
            sum_of(&[("y_train", npy("<u2", "(3,)", &[0, 0, 1, 0, 2, 0]))])
        );
        for (name, content) in [
            ("y_train", npy("|u1", "(3,)", &[0, 2, 1])),
            ("x_test", npy("|u1", "(1, 4, 4, 3)", &[8; 48])),
        ] {
            assert_ne!(plain, sum_of(&[(name, content)]), "{name}");
        }
    }
}
