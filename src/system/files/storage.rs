//! The disk operations that it takes to commit a file.
//!
//! Tests replace [`Disk`] with one that loses power at any of them (`faulty.rs`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{TEMPORARY_SUFFIX, folder_of};

/// A disk. What is not synced may be lost when power fails.
pub trait Storage {
    /// An open file that does not have its final name yet.
    type Temporary;

    /// Creates an empty file that is to become `path`, in the same folder, under a name that
    /// [`super::temporary_target`] knows.
    fn create_beside(&self, path: &Path) -> io::Result<Self::Temporary>;

    /// Appends `bytes`, all of them.
    fn write(&self, file: &mut Self::Temporary, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the content of `file` is on disk.
    fn sync(&self, file: &Self::Temporary) -> io::Result<()>;

    /// Renames `file` to `path`, replacing any file of that name.
    fn rename(&self, file: Self::Temporary, path: &Path) -> io::Result<()>;

    /// Waits until the names in `folder` are on disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// The paths of what lies in `folder`, in any order.
    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The content of the file at `path`, which must be a regular file of at most `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
}

/// Waits until the names in `folder` are on disk, if the file system supports that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    let file = match File::open(folder) {
        // The folder may be written to but not read, or the system cannot open folders.
        Err(error) if is_any_of(&error, &[libc::EACCES, libc::EISDIR]) => return Ok(()),
        opened => opened?,
    };
    match file.sync_all() {
        Err(error) if is_any_of(&error, &CANNOT_SYNC_FOLDERS) => Ok(()),
        synced => synced,
    }
}

/// The errors of file systems that can sync files but not folders: network shares (CIFS) and some of FUSE.
const CANNOT_SYNC_FOLDERS: [i32; 4] = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS, libc::EBADF];

fn is_any_of(error: &io::Error, numbers: &[i32]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| numbers.contains(&number))
}

/// The machine's own file systems.
pub struct Disk;

impl Storage for Disk {
    /// Deleted if it is dropped before it is renamed.
    type Temporary = NamedTempFile;

    fn create_beside(&self, path: &Path) -> io::Result<NamedTempFile> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(TEMPORARY_SUFFIX)
            // Opened here and not by the crate, whose errors show the temporary name. The file ends up as readable as
            // any other the user makes.
            .make_in(folder_of(path), |temporary| File::create_new(temporary))
    }

    fn write(&self, file: &mut NamedTempFile, bytes: &[u8]) -> io::Result<()> {
        file.as_file_mut().write_all(bytes)
    }

    fn sync(&self, file: &NamedTempFile) -> io::Result<()> {
        file.as_file().sync_all()
    }

    fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.persist(path)?;
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        sync_folder(folder)
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        // Reading a pipe could block for ever, and a device may never end.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("expected a file, found something else"));
        }
        if metadata.len() > limit {
            let got = metadata.len();
            let message = format!("expected at most {limit} bytes, got {got}");
            return Err(io::Error::other(message));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        // It may grow meanwhile.
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
