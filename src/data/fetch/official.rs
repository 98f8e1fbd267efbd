//! The official data sets: names, checksums and places of their files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::error::DataError;
use crate::data::fetch::checksum::expect_sum;
use crate::data::records::{Format, RECORD_LEN};
use crate::system::{files, sha256};

/// A data set as its home page has it.
pub(crate) struct OfficialSet {
    pub(crate) name: &'static str,
    pub(crate) archive: Archive,
    /// The folder inside the archive.
    pub(crate) folder: &'static str,
    pub(crate) files: &'static [OfficialFile],
    /// How many of `files` are for training; they come first.
    pub(crate) train_files: usize,
}

/// A gzipped tar archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Archive {
    pub(crate) name: &'static str,
    pub(crate) url: &'static str,
    pub(crate) sha256: &'static str,
}

/// One file of a data set's binary version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfficialFile {
    pub(crate) name: &'static str,
    pub(crate) sha256: &'static str,
    /// Bytes.
    pub(crate) len: u64,
}

pub(crate) const CIFAR_10: OfficialSet = OfficialSet {
    name: "CIFAR-10",
    archive: Archive {
        name: "cifar-10-binary.tar.gz",
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    folder: "cifar-10-batches-bin",
    files: &FILES,
    train_files: 5,
};

pub(crate) const CIFAR_100: OfficialSet = OfficialSet {
    name: "CIFAR-100",
    archive: Archive {
        name: "cifar-100-binary.tar.gz",
        url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    },
    folder: "cifar-100-binary",
    files: &[
        OfficialFile {
            name: "train.bin",
            sha256: "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            len: 50_000 * Format::CIFAR_100.record_len() as u64,
        },
        OfficialFile {
            name: "test.bin",
            sha256: "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            len: 10_000 * Format::CIFAR_100.record_len() as u64,
        },
    ],
    train_files: 1,
};

/// Images in each file of CIFAR-10.
pub(crate) const CIFAR_10_RECORDS: usize = 10_000;
/// Bytes of each file of CIFAR-10.
pub(crate) const CIFAR_10_LEN: u64 = (CIFAR_10_RECORDS * RECORD_LEN) as u64;

/// Those of CIFAR-10.
pub(crate) const FILES: [OfficialFile; 6] = [
    OfficialFile {
        name: "data_batch_1.bin",
        sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        len: CIFAR_10_LEN,
    },
    OfficialFile {
        name: "data_batch_2.bin",
        sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        len: CIFAR_10_LEN,
    },
    OfficialFile {
        name: "data_batch_3.bin",
        sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        len: CIFAR_10_LEN,
    },
    OfficialFile {
        name: "data_batch_4.bin",
        sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        len: CIFAR_10_LEN,
    },
    OfficialFile {
        name: "data_batch_5.bin",
        sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        len: CIFAR_10_LEN,
    },
    OfficialFile {
        name: "test_batch.bin",
        sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        len: CIFAR_10_LEN,
    },
];

impl OfficialFile {
    /// How many records of `format` it has.
    pub(super) fn records(&self, format: Format) -> usize {
        self.len as usize / format.record_len()
    }

    /// Checks the size and the checksum of the file at `path`.
    pub(super) fn verify(&self, path: &Path) -> Result<(), DataError> {
        const PIECE_LEN: usize = 1 << 20;
        self.read_verified(path, PIECE_LEN, |_| {})
    }

    /// Reads the file at `path` in pieces of `piece_len` bytes, the last of which may be shorter, and gives each to
    /// `take`; checks the size before, and the checksum after all of them.
    pub(super) fn read_verified(
        &self,
        path: &Path,
        piece_len: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), DataError> {
        let mut opened = File::open(path).map_err(DataError::io("read", path))?;
        let metadata = opened.metadata().map_err(DataError::io("read", path))?;
        if metadata.len() != self.len {
            return Err(DataError::Size {
                file: path.to_path_buf(),
                expected: self.len,
                got: metadata.len(),
            });
        }
        let mut hasher = Sha256::new();
        let mut piece = vec![0; piece_len];
        let mut left = self.len;
        while left > 0 {
            let len = left.min(piece_len as u64);
            let piece = &mut piece[..len as usize];
            opened
                .read_exact(piece)
                .map_err(DataError::io("read", path))?;
            hasher.update(&*piece);
            take(piece);
            left -= len;
        }
        expect_sum(path, self.sha256, sha256::finish(hasher))
    }

    /// Writes fetched content to its place, whole or not at all.
    pub(crate) fn install(&self, bytes: &[u8], place: &Place) -> Result<(), DataError> {
        let path = place.folder.join(self.name);
        expect_sum(&path, self.sha256, sha256::sum(bytes))?;
        files::write_bytes(&path, bytes)?;
        log::info!("{}: verified", path.display());
        Ok(())
    }

    /// Where it is, in `data_dir` or in its folder `folder`.
    pub(super) fn locate(&self, data_dir: &Path, folder: &str) -> Option<PathBuf> {
        [
            data_dir.join(self.name),
            data_dir.join(folder).join(self.name),
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
