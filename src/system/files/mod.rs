//! Files that are either complete or absent: written under a temporary name, then renamed.

mod storage;

#[cfg(test)]
pub mod faulty;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

pub use storage::{Disk, Storage};

/// A file that could not be written. An earlier file of that name is untouched.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error(
        "cannot write {}: {reason}; check that its folder exists, can be written to and has space left",
        path.display()
    )]
    Io { path: PathBuf, reason: io::Error },
    #[error("cannot write {} as JSON: {reason}", path.display())]
    Json {
        path: PathBuf,
        reason: serde_json::Error,
    },
}

/// Writes `bytes` to `path` so that a reader sees either the old file or the new one, complete, even after a crash at
/// any moment.
///
/// The bytes go to a temporary file in the same folder, are synced to disk, and the file is renamed over `path`.
/// A symbolic link at `path` is replaced, not followed.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_bytes_to(&Disk, path, bytes)
}

/// [`write_bytes`] on any storage.
pub fn write_bytes_to(storage: &impl Storage, path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replace(storage, path, bytes).map_err(|reason| WriteError::Io {
        path: path.to_owned(),
        reason,
    })
}

/// [`write_bytes`] for text.
pub fn write_text(path: &Path, text: &str) -> Result<(), WriteError> {
    write_bytes(path, text.as_bytes())
}

/// [`write_bytes`] for a value as indented JSON with a newline at its end.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), WriteError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|reason| WriteError::Json {
        path: path.to_owned(),
        reason,
    })?;
    text.push('\n');
    write_text(path, &text)
}

/// The text in the file at `path`, which must be a regular file of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = Disk.read(path, limit)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The final name of a temporary file `name` that [`write_bytes`] made. A killed process leaves such files behind.
pub fn temporary_target(name: &str) -> Option<&str> {
    let (target, _random) = name
        .strip_prefix('.')?
        .strip_suffix(TEMPORARY_SUFFIX)?
        .rsplit_once('.')?;
    Some(target)
}

/// The ending of a temporary file's name.
const TEMPORARY_SUFFIX: &str = ".tmp";

fn replace(storage: &impl Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = storage.create_beside(path)?;
    storage.write(&mut temporary, bytes)?;
    storage.sync(&temporary)?;
    storage.rename(temporary, path)?;
    // The rename itself survives a power cut only once the folder is synced too.
    storage.sync_folder(folder_of(path))
}

/// The folder that `path` lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.txt");
        write_text(&path, "a longer first text").unwrap();
        write_text(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_written_file_has_the_permissions_of_an_ordinary_one() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, ordinary) = (folder.path().join("ours"), folder.path().join("ordinary"));
        write_text(&ours, "x").unwrap();
        fs::write(&ordinary, "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&ordinary));
    }

    #[test]
    fn json_is_indented_and_ends_with_a_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_json(&path, &BTreeMap::from([("steps", 390)])).unwrap();
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "{\n  \"steps\": 390\n}\n"
        );
    }

    #[test]
    fn a_symbolic_link_in_the_place_of_the_file_is_replaced_and_its_target_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        write_text(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
        assert!(!link.is_symlink());
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/history.csv");
        let message = write_text(&path, "x").unwrap_err().to_string();
        assert!(message.contains("missing/history.csv"), "{message}");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_no_temporary_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        write_text(&path, "x").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.txt");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        let error = read_text(&path, 4).unwrap_err().to_string();
        assert_eq!(error, "expected at most 4 bytes, got 5");
        // Of the sizes of files that hold nothing, this one is a terabyte.
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read_text(&path, 1 << 20).is_err());
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let error = read_text(path, 100).unwrap_err().to_string();
            assert_eq!(error, "expected a file, found something else");
        }
    }

    #[test]
    fn a_temporary_file_tells_which_file_it_was_to_become() {
        assert_eq!(
            temporary_target(".history.csv.Ab12Cd.tmp"),
            Some("history.csv")
        );
        assert_eq!(temporary_target(".history.csv.swp"), None);
        assert_eq!(temporary_target("history.csv"), None);
    }
}
