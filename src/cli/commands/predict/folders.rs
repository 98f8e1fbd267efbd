//! The pictures in folders.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data::picture::{endings, is_named_as_picture};

/// A folder whose pictures cannot be listed. The program exits with code 3.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read the folder {}: {reason}", path.display())]
    Read { path: PathBuf, reason: io::Error },
    #[error("there is no picture in {}: no file in it or in its folders ends in one of {}", path.display(), endings())]
    Empty { path: PathBuf },
}

/// `paths`, with those that are folders replaced by the pictures in them and in their folders, in order of their names.
/// What is hidden is left out. A folder is entered once, however many links lead to it.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FolderError> {
    let mut pictures = Vec::new();
    for path in paths {
        if !path.is_dir() {
            pictures.push(path.clone());
            continue;
        }
        let before = pictures.len();
        add(path, &mut HashSet::new(), &mut pictures)?;
        if pictures.len() == before {
            return Err(FolderError::Empty { path: path.clone() });
        }
    }
    Ok(pictures)
}

/// Adds the pictures in `folder` to `pictures`, unless it is one of those already `entered`.
fn add(
    folder: &Path,
    entered: &mut HashSet<(u64, u64)>,
    pictures: &mut Vec<PathBuf>,
) -> Result<(), FolderError> {
    let unreadable = |reason: io::Error| FolderError::Read {
        path: folder.to_owned(),
        reason,
    };
    let this = fs::metadata(folder).map_err(unreadable)?;
    if !entered.insert((this.dev(), this.ino())) {
        return Ok(());
    }
    let entries: io::Result<Vec<DirEntry>> = fs::read_dir(folder).and_then(Iterator::collect);
    let mut entries = entries.map_err(unreadable)?;
    entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    entries.sort_by_cached_key(DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if is_folder(&entry, &path) {
            add(&path, entered, pictures)?;
        } else if is_named_as_picture(&entry.file_name()) {
            pictures.push(path);
        }
    }
    Ok(())
}

/// Whether `entry`, at `path`, is a folder, or a link to one. Nothing but a link has to be looked at for that.
fn is_folder(entry: &DirEntry, path: &Path) -> bool {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => path.is_dir(),
    }
}
