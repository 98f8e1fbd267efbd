//! NumPy arrays in an `.npz` file: `x_train`, `y_train`, `x_test` and `y_test`, as Keras names them.
//!
//! Images are unsigned bytes `[N, S, S, 3]`, or grey ones `[N, S, S]` or `[N, S, S, 1]`. Labels are whole numbers of any
//! type, `[N]` or `[N, 1]`, and the classes are called by them: "0", "1" and so on.
//!
//! An `.npz` file is a zip archive of `.npy` files: a magic string, a version, the length of a header, the header (a
//! Python dictionary with the type, the order and the dimensions), then the values.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};
use ndarray::Array1;
use zip::ZipArchive;

use crate::data::dataset::{CHANNELS, Dataset, DatasetSpec, Split};
use crate::data::error::DataError;
use crate::data::room;

/// The longest header that is read; that of an image array has about 120 bytes.
const LONGEST_HEADER: usize = 4096;
const MAGIC: &[u8] = b"\x93NUMPY";

type Archive = ZipArchive<BufReader<File>>;

/// Loads the arrays in the file `path`.
pub(super) fn load(path: &Path) -> Result<Dataset, DataError> {
    let wrong = |reason: String| DataError::Unfit {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        wrong(format!(
            "expected an .npz file, got no zip archive ({error})"
        ))
    })?;
    check_room(path, &mut archive)?;
    let train = split(&mut archive, "train").map_err(wrong)?;
    let test = split(&mut archive, "test").map_err(wrong)?;
    if train.side() != test.side() {
        let (a, b) = (train.side(), test.side());
        return Err(wrong(format!(
            "expected images of one size, got {a} x {a} pixels in x_train and {b} x {b} in x_test"
        )));
    }
    let classes = train
        .labels
        .iter()
        .max()
        .map_or(0, |most| usize::from(*most) + 1);
    if classes < 2 {
        return Err(wrong(
            "y_train: expected labels of two or more classes, got 0 alone".to_owned(),
        ));
    }
    if let Some((at, label)) = first(&test.labels, |label| usize::from(label) >= classes) {
        let last = classes - 1;
        return Err(wrong(format!(
            "y_test[{at}]: expected a label from 0 to {last}, the largest of y_train, got {label}"
        )));
    }
    Ok(Dataset {
        name: "npz".to_owned(),
        spec: DatasetSpec {
            side: train.side(),
            class_names: (0..classes).map(|class| class.to_string()).collect(),
        },
        train,
        validation: None,
        test,
        stratified: false,
    })
}

/// Refuses arrays that say that they are larger than what fits in memory.
fn check_room(path: &Path, archive: &mut Archive) -> Result<(), DataError> {
    let mut bytes = 0;
    for name in ["x_train.npy", "x_test.npy"] {
        // One that is missing is told of later.
        bytes += archive.by_name(name).map_or(0, |entry| entry.size());
    }
    room::check(path, bytes, "take fewer images")
}

/// The images `x_PART` with their labels `y_PART`.
fn split(archive: &mut Archive, part: &str) -> Result<Split, String> {
    let (x, y) = (format!("x_{part}"), format!("y_{part}"));
    let (side, images) = images(archive, &x).map_err(|reason| format!("{x}: {reason}"))?;
    let labels = labels(archive, &y).map_err(|reason| format!("{y}: {reason}"))?;
    let count = images.len() / (side * side * CHANNELS);
    if labels.len() != count {
        let got = labels.len();
        return Err(format!(
            "{y}: expected {count} labels, as many as {x} has images, got {got}"
        ));
    }
    Ok(Split::of(images, labels, side))
}

/// Rows and columns of the images in the array `name`, and all their pixels in red, green and blue.
fn images(archive: &mut Archive, name: &str) -> Result<(usize, Vec<u8>), String> {
    let Npy { header, values } = read(archive, name)?;
    let expected = "expected unsigned bytes (uint8) [N, S, S, 3], [N, S, S, 1] or [N, S, S]";
    let wrong = || format!("{expected}, got {header}");
    let (side, channels) = match header.dims[..] {
        [_, height, width] if height == width => (height, 1),
        [_, height, width, channels] if height == width => (height, channels),
        _ => return Err(wrong()),
    };
    let is_bytes = header.kind == 'u' && header.size == 1;
    if !is_bytes || side == 0 || values.is_empty() {
        return Err(wrong());
    }
    match channels {
        CHANNELS => Ok((side, values)),
        1 => Ok((
            side,
            values.iter().flat_map(|grey| [*grey; CHANNELS]).collect(),
        )),
        _ => Err(wrong()),
    }
}

fn labels(archive: &mut Archive, name: &str) -> Result<Array1<u16>, String> {
    let Npy { header, values } = read(archive, name)?;
    let fits = matches!(header.dims[..], [_] | [_, 1]);
    if !fits || !['i', 'u'].contains(&header.kind) {
        return Err(format!(
            "expected whole numbers [N] or [N, 1], got {header}"
        ));
    }
    let label = |(at, bytes): (usize, &[u8])| {
        let number = header.number(bytes);
        // As many classes as a label can tell apart, less one: see `check_spec`.
        u16::try_from(number)
            .ok()
            .filter(|label| *label < u16::MAX)
            .ok_or_else(|| format!("expected labels from 0 to 65534, got {number} as number {at}"))
    };
    values
        .chunks_exact(header.size)
        .enumerate()
        .map(label)
        .collect()
}

/// The first label for which `is_wrong`, and its place.
fn first(labels: &Array1<u16>, is_wrong: impl Fn(u16) -> bool) -> Option<(usize, u16)> {
    let mut found = labels.iter().copied().enumerate();
    found.find(|(_, label)| is_wrong(*label))
}

/// One array: the bytes of its values as they are in the file.
struct Npy {
    header: Header,
    values: Vec<u8>,
}

/// The array `name` of the archive.
fn read(archive: &mut Archive, name: &str) -> Result<Npy, String> {
    let entry = archive.by_name(&format!("{name}.npy"));
    let mut entry = entry.map_err(|_| {
        "expected an array of this name beside x_train, y_train, x_test and y_test, got none"
            .to_owned()
    })?;
    let unreadable = |error: std::io::Error| format!("cannot read the array: {error}");
    let mut start = [0; MAGIC.len() + 2];
    entry.read_exact(&mut start).map_err(unreadable)?;
    let [version, _] = start[MAGIC.len()..] else {
        return Err("expected a version".to_owned());
    };
    if !start.starts_with(MAGIC) {
        return Err("expected a NumPy array, got something else".to_owned());
    }
    let mut length = [0; 4];
    let bytes = if version == 1 { 2 } else { 4 };
    entry.read_exact(&mut length[..bytes]).map_err(unreadable)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return Err(format!(
            "expected a header of at most {LONGEST_HEADER} bytes, got {length}"
        ));
    }
    let mut text = vec![0; length];
    entry.read_exact(&mut text).map_err(unreadable)?;
    let header = Header::parse(&String::from_utf8_lossy(&text))?;
    let expected = header.bytes().ok_or("its dimensions are too large")?;
    let mut values = Vec::new();
    // One more would show.
    let most = expected.saturating_add(1);
    entry
        .take(most)
        .read_to_end(&mut values)
        .map_err(unreadable)?;
    if values.len() as u64 != expected {
        let got = values.len();
        return Err(format!(
            "expected {expected} bytes for {header}, got {got}, or more"
        ));
    }
    Ok(Npy { header, values })
}

/// What an array is like.
#[derive(Debug, PartialEq)]
struct Header {
    /// The type as NumPy writes it, for example `<f4`.
    descr: String,
    /// `i` for whole numbers, `u` for those without sign, and others.
    kind: char,
    /// Bytes of a value.
    size: usize,
    is_big_endian: bool,
    dims: Vec<usize>,
}

impl Header {
    /// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 32, 32, 3), }`.
    fn parse(text: &str) -> Result<Header, String> {
        let wrong = || format!("expected NumPy's header, got {:?}", text.trim_end());
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let descr = after("descr").ok_or_else(wrong)?;
        let descr = descr.strip_prefix('\'').ok_or_else(wrong)?;
        let (descr, _) = descr.split_once('\'').ok_or_else(wrong)?;
        let order = after("fortran_order").ok_or_else(wrong)?;
        if !order.starts_with("False") {
            return Err(
                "expected values in C order, got Fortran order; save np.ascontiguousarray(x)"
                    .to_owned(),
            );
        }
        let dims = after("shape").and_then(|rest| rest.strip_prefix('('));
        let (dims, _) = dims
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(wrong)?;
        let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let dims: Result<Vec<usize>, _> = dims.map(str::parse).collect();

        let mut type_of = descr.chars();
        let order = type_of.next().ok_or_else(wrong)?;
        let kind = type_of.next().ok_or_else(wrong)?;
        let size = type_of.as_str().parse().ok();
        Ok(Header {
            descr: descr.to_owned(),
            kind,
            size: size
                .filter(|size| (1..=16).contains(size))
                .ok_or_else(wrong)?,
            is_big_endian: order == '>',
            dims: dims.map_err(|_| wrong())?,
        })
    }

    /// Bytes of all values, if that is a number at all.
    fn bytes(&self) -> Option<u64> {
        let dims = self.dims.iter().map(|dim| *dim as u64);
        dims.chain([self.size as u64])
            .try_fold(1u64, u64::checked_mul)
    }

    /// The whole number that `bytes`, `size` of them, stand for.
    fn number(&self, bytes: &[u8]) -> i128 {
        let mut bytes = bytes.to_vec();
        if self.is_big_endian {
            bytes.reverse();
        }
        match self.kind {
            'i' => LittleEndian::read_int128(&bytes, self.size),
            _ => LittleEndian::read_uint128(&bytes, self.size) as i128,
        }
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let kind = match self.kind {
            'i' => "int",
            'u' => "uint",
            'f' => "float",
            _ => return write!(f, "{} {:?}", self.descr, self.dims),
        };
        write!(f, "{kind}{} {:?}", 8 * self.size, self.dims)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// The content of an `.npy` file.
    fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), values].concat()
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
            assert_eq!(train.images.as_slice().unwrap(), expected);
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
}
