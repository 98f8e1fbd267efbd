//! CIFAR-10 from its home page: one gzipped tar archive.

use std::path::Path;

use crate::data::error::DataError;
use crate::data::fetch::download::download;
use crate::data::fetch::official::{OfficialFile, Place};
use crate::data::fetch::tarball::for_each_file;

const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
const SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";

/// Downloads the archive, checks its checksum and installs the missing files from it.
pub(super) fn fetch(missing: &[OfficialFile], place: &Place) -> Result<(), DataError> {
    let archive = place.work.join("cifar-10-binary.tar.gz.partial");
    download(URL, SHA256, &archive)?;
    extract(&archive, missing, place)
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
        let Some(index) = found.filter(|_| size == OfficialFile::LEN) else {
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
            expected: format!("{} of {} bytes in it", file.name, OfficialFile::LEN),
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
    use crate::data::fetch::official::FILES;

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
        let (error, installed) = extract_zeros(OfficialFile::LEN);
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert_eq!(installed, 0);
    }
}
