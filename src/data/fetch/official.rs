//! The six official files: names, checksums and locations.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::data::fetch::checksum::expect_sum;
use crate::data::records::RECORD_LEN;
use crate::system::{files, sha256};

/// The folder inside the official archive.
pub(super) const FOLDER: &str = "cifar-10-batches-bin";

/// One file of the binary version of CIFAR-10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfficialFile {
    pub(crate) name: &'static str,
    pub(crate) sha256: &'static str,
}

/// The number of [`FILES`] in the training split; they come first.
pub(crate) const TRAIN_FILES: usize = 5;

pub(crate) const FILES: [OfficialFile; 6] = [
    OfficialFile {
        name: "data_batch_1.bin",
        sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    },
    OfficialFile {
        name: "data_batch_2.bin",
        sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    },
    OfficialFile {
        name: "data_batch_3.bin",
        sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    },
    OfficialFile {
        name: "data_batch_4.bin",
        sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    },
    OfficialFile {
        name: "data_batch_5.bin",
        sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    },
    OfficialFile {
        name: "test_batch.bin",
        sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
];

impl OfficialFile {
    /// Images in each file.
    pub(crate) const RECORDS: usize = 10_000;
    /// Bytes of each file.
    pub(crate) const LEN: u64 = (Self::RECORDS * RECORD_LEN) as u64;

    /// Reads the file at `path` and checks its size and checksum.
    pub(crate) fn read_verified(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        if metadata.len() != Self::LEN {
            return Err(DataError::Size {
                file: path.to_path_buf(),
                expected: Self::LEN,
                got: metadata.len(),
            });
        }
        let bytes = fs::read(path).map_err(DataError::io("read", path))?;
        expect_sum(path, self.sha256, sha256::sum(&bytes))?;
        Ok(bytes)
    }

    /// Writes fetched content to its place, whole or not at all.
    pub(crate) fn install(&self, bytes: &[u8], place: &Place) -> Result<(), DataError> {
        let path = place.folder.join(self.name);
        expect_sum(&path, self.sha256, sha256::sum(bytes))?;
        files::write_bytes(&path, bytes)?;
        log::info!("{}: verified", path.display());
        Ok(())
    }

    pub(super) fn locate(&self, data_dir: &Path) -> Option<PathBuf> {
        [
            data_dir.join(self.name),
            data_dir.join(FOLDER).join(self.name),
        ]
        .into_iter()
        .find(|path| path.exists())
    }
}

/// Where a fetch puts its files.
pub(crate) struct Place {
    /// The finished files.
    pub(crate) folder: PathBuf,
    /// Everything else.
    pub(crate) work: PathBuf,
}
