//! A data set from its home page: one gzipped tar archive.

use std::path::Path;

use crate::data::error::DataError;
use crate::data::fetch::checksum::{expect_sum, sha256_of_file};
use crate::data::fetch::download::download;
use crate::data::fetch::official::{Archive, OfficialFile, Place};
use crate::data::fetch::tarball::for_each_file;

/// Downloads the archive, checks its checksum and installs the missing files from it.
pub(super) fn fetch(
    archive: Archive,
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    let partial = place.work.join(format!("{}.partial", archive.name));
    download(archive.url, archive.sha256, &partial)?;
    extract(&partial, missing, place)
}

/// Installs the missing files from the archive `path`, which the user has put there, once its checksum is found right.
pub(super) fn take(
    archive: Archive,
    path: &Path,
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    expect_sum(path, archive.sha256, sha256_of_file(path)?)?;
    extract(path, missing, place)
}

/// Installs the missing files from the archive, identified by name and size; nothing else is read from it.
pub(crate) fn extract(
    archive: &Path,
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    let mut wanted = missing.to_vec();
    for_each_file(archive, |name, size, content| {
        let found = wanted.iter().position(|file| file.name == name);
        let Some(index) = found.filter(|index| size == wanted[*index].len) else {
            return Ok(());
        };
        let mut bytes = Vec::with_capacity(size as usize);
        content
            .read_to_end(&mut bytes)
            .map_err(DataError::io("read", archive))?;
        wanted.remove(index).install(&bytes, place)
    })?;
    match wanted.first() {
        None => Ok(()),
        Some(file) => Err(DataError::Archive {
            file: archive.to_path_buf(),
            expected: format!("{} of {} bytes in it", file.name, file.len),
            got: "no such entry".to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::data::fetch::official::{CIFAR_10_LEN, CIFAR_100, FILES};

    /// Tries to extract `test_batch.bin` from an archive where it consists of `length` zeros.
    fn extract_zeros(length: u64) -> (DataError, usize) {
        let temporary = tempfile::tempdir().unwrap();
        let place = Place {
            folder: temporary.path().join("folder"),
            work: temporary.path().join("work"),
        };
        fs::create_dir(&place.folder).unwrap();
        fs::create_dir(&place.work).unwrap();
        let path = temporary.path().join("archive.tar.gz");
        let gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        let name = "cifar-10-batches-bin/test_batch.bin";
        let zeros = std::io::repeat(0).take(length);
        tar.append_data(&mut header, name, zeros).unwrap();
        tar.into_inner().unwrap().finish().unwrap();

        let error = extract(&path, &FILES[5..], &place).unwrap_err();
        (error, fs::read_dir(&place.folder).unwrap().count())
    }

    #[test]
    fn an_archive_with_another_sum_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CIFAR_100.archive.name);
        fs::write(&path, "abc").unwrap();
        let place = Place {
            folder: folder.path().to_owned(),
            work: folder.path().to_owned(),
        };
        let error = take(CIFAR_100.archive, &path, CIFAR_100.files, &place).unwrap_err();
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert!(
            error.to_string().contains("expected 58a81ae192c23a4b"),
            "{error}"
        );
    }

    #[test]
    fn an_entry_of_another_size_is_not_taken() {
        let (error, installed) = extract_zeros(1000);
        assert!(
            error
                .to_string()
                .ends_with("expected test_batch.bin of 30730000 bytes in it, got no such entry"),
            "{error}"
        );
        assert_eq!(installed, 0);
    }

    #[test]
    fn an_entry_with_a_wrong_sum_is_not_installed() {
        let (error, installed) = extract_zeros(CIFAR_10_LEN);
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert_eq!(installed, 0);
    }
}
