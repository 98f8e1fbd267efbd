//! Compiled programs that stay: a folder of files, so that the second start of a program need not compile it.
//!
//! Loading a file runs the code in it, so the folder must belong to the user, and nobody else may write to it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::device::plugins;
use crate::system::files::{self, Disk, Storage};
use crate::system::sha256;

/// In the place of a folder: no cache.
pub const NONE: &str = "none";
/// Below the folder in which `./setup` keeps what it installs.
const FOLDER: &str = "compiled";
/// Bytes of all files; the files that were not used for longest make room for a new one.
const LIMIT: u64 = 4 << 30;
/// Part of each key: counts up when the files change.
const VERSION: &str = "1";

/// Others could put code into the folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder of compiled programs.
pub struct CompileCache {
    folder: PathBuf,
}

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("it cannot be made or read: {0}")]
    Io(#[from] io::Error),
    #[error("it belongs to user {owner}, and this is user {user}")]
    Owner { owner: u32, user: u32 },
    #[error("others may write to it (mode {0:o}); expected 700 or 755")]
    Mode(u32),
}

/// A compiled program from the cache.
pub struct Kept {
    pub executable: Vec<u8>,
    /// How long it took to compile.
    pub compiling: Duration,
}

/// What stands before the executable in a file, on one line.
#[derive(Serialize, Deserialize)]
struct Header {
    sha256: String,
    compile_s: f64,
}

impl CompileCache {
    /// The cache in the folder `named`, or the user's own; none if `named` says so. One that cannot be used is a
    /// warning and no cache.
    pub fn chosen(named: Option<&Path>) -> Option<Self> {
        let folder = match named {
            Some(folder) if folder == Path::new(NONE) => return None,
            Some(folder) => folder.to_owned(),
            None => plugins::cache_dir()?.join(FOLDER),
        };
        match Self::open(&folder) {
            Ok(cache) => Some(cache),
            Err(reason) => {
                log::warn!(
                    "compiled programs are not kept in {}: {reason}. --compile-cache names another folder, or {NONE}",
                    folder.display()
                );
                None
            }
        }
    }

    /// The cache in `folder`, which is made if it is not there.
    fn open(folder: &Path) -> Result<Self, CacheError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let metadata = fs::metadata(folder)?;
        // The user of this process, according to the system.
        let user = fs::metadata("/proc/self")?.uid();
        if metadata.uid() != user {
            let owner = metadata.uid();
            return Err(CacheError::Owner { owner, user });
        }
        let mode = metadata.mode() & 0o777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(CacheError::Mode(mode));
        }
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// The file of a program that depends on all of `parts` and nothing else.
    pub fn file_of(&self, parts: &[String]) -> PathBuf {
        let sums: Vec<_> = parts
            .iter()
            .map(|part| sha256::sum(part.as_bytes()))
            .collect();
        let key = sha256::sum(format!("{VERSION} {}", sums.join(" ")).as_bytes());
        self.folder.join(key)
    }

    /// The program in `file`; `None` if it was never kept. A file that is not whole is a warning, and `None`.
    pub fn load(&self, file: &Path) -> Option<Kept> {
        let bytes = match Disk.read(file, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                log::warn!("cannot read {}: {error}", file.display());
                return None;
            }
        };
        let kept = parse(&bytes);
        match kept {
            // It was used now.
            Some(_) => drop(File::open(file).map(|file| file.set_modified(SystemTime::now()))),
            None => log::warn!(
                "{} is damaged; the program is compiled again",
                file.display()
            ),
        }
        kept
    }

    /// Keeps `executable`, which took so long to compile, in `file`. A failure is a warning.
    pub fn store(&self, file: &Path, executable: &[u8], compiling: Duration) {
        let header = Header {
            sha256: sha256::sum(executable),
            compile_s: compiling.as_secs_f64(),
        };
        let stored = serde_json::to_vec(&header).map_err(io::Error::from);
        let stored = stored.and_then(|mut bytes| {
            bytes.push(b'\n');
            bytes.extend(executable);
            self.make_room(bytes.len() as u64)?;
            files::write_bytes(file, &bytes).map_err(io::Error::other)
        });
        if let Err(error) = stored {
            log::warn!("a compiled program is not kept: {error}");
        }
    }

    /// Removes the files that were not used for longest, until `needed` bytes more are within the limit.
    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it meanwhile.
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total + needed <= LIMIT {
                break;
            }
            total -= len;
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The program in the content of a file, if it is whole.
fn parse(bytes: &[u8]) -> Option<Kept> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let executable = &bytes[end + 1..];
    (sha256::sum(executable) == header.sha256).then(|| Kept {
        executable: executable.to_vec(),
        compiling: Duration::try_from_secs_f64(header.compile_s).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parts(program: &str) -> [String; 2] {
        [program.to_owned(), "plugin 1".to_owned()]
    }

    #[test]
    fn what_was_kept_comes_back_under_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(&folder.path().join("new")).unwrap();
        let file = cache.file_of(&parts("a"));
        assert!(cache.load(&file).is_none());
        cache.store(&file, b"code\n\0", Duration::from_secs(9));
        let kept = cache.load(&file).unwrap();
        assert_eq!(kept.executable, b"code\n\0");
        assert_eq!(kept.compiling, Duration::from_secs(9));
        assert!(cache.load(&cache.file_of(&parts("b"))).is_none());
        // The parts are apart, not one text.
        let moved = ["aplugin 1".to_owned(), String::new()];
        assert_ne!(cache.file_of(&moved), file);
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(folder.path()).unwrap();
        let file = cache.file_of(&parts("a"));
        cache.store(&file, &[7; 1000], Duration::from_secs(1));
        let whole = fs::read(&file).unwrap();
        for place in [1, 20, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(&file, &bytes).unwrap();
            assert!(cache.load(&file).is_none(), "{place}");
            fs::write(&file, &whole[..place]).unwrap();
            assert!(cache.load(&file).is_none(), "{place}");
        }
        fs::write(&file, &whole).unwrap();
        assert!(cache.load(&file).is_some());
    }

    #[test]
    fn a_folder_that_others_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, used) in [(0o700, true), (0o755, true), (0o775, false), (0o777, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(CompileCache::open(folder.path()).is_ok(), used, "{mode:o}");
        }
        // A file is no folder.
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(CompileCache::open(&file).is_err());
        assert!(CompileCache::chosen(Some(Path::new(NONE))).is_none());
    }
}
