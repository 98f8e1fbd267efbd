//! Compiled programs that stay: a folder of files, so that the second start of a program need not compile it.
//!
//! Loading a file runs the code in it, so the folder and the file must belong to the user, and nobody else may write to
//! them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::device::plugins;
use crate::system::files;
use crate::system::sha256;

/// In the place of a folder: no cache.
pub const NONE: &str = "none";
/// Below the folder in which `./setup` keeps what it installs.
const FOLDER: &str = "compiled";
/// Bytes of all files; the files that were not used for longest make room for a new one.
const LIMIT: u64 = 4 << 30;
/// Part of each key: counts up when the files change.
const VERSION: &str = "1";

/// Others could put code into the folder or the file.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A temporary file that is older was left behind by a process that was killed.
const WRITING: Duration = Duration::from_secs(60 * 60);
/// The ending of a temporary file's name ([`files::temporary_target`]).
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A folder of compiled programs. What else is in it stays as it is.
pub struct CompileCache {
    folder: PathBuf,
    /// The user of this process.
    user: u32,
    /// Bytes of all its files.
    limit: u64,
}

/// Why a folder or a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("it cannot be made or read: {0}")]
    Io(io::Error),
    #[error("it belongs to user {owner}, and this is user {user}")]
    Owner { owner: u32, user: u32 },
    #[error("others may write to it (mode {0:o}); only its owner should")]
    Mode(u32),
    #[error("it is no file, or one of more than {0} bytes")]
    Size(u64),
}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
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
        // The user of this process, according to the system.
        let user = fs::metadata("/proc/self")?.uid();
        check_owner(&fs::metadata(folder)?, user)?;
        Ok(Self {
            folder: folder.to_owned(),
            user,
            limit: LIMIT,
        })
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
        let (opened, bytes) = match self.read(file) {
            Ok(read) => read,
            Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(reason) => {
                log::warn!(
                    "{} is not used: {reason}; the program is compiled again",
                    file.display()
                );
                return None;
            }
        };
        let kept = parse(&bytes);
        match kept {
            // It was used now. Where that cannot be noted, it only makes room earlier.
            Some(_) => drop(opened.set_modified(SystemTime::now())),
            None => log::warn!(
                "{} is damaged; the program is compiled again",
                file.display()
            ),
        }
        kept
    }

    /// The opened `file` and its content. What is checked is what is read, whatever happens to the name meanwhile.
    fn read(&self, file: &Path) -> Result<(File, Vec<u8>), CacheError> {
        let mut options = OpenOptions::new();
        options.read(true);
        // A link may lead to a stranger's file, and opening a pipe could block for ever.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let opened = options.open(file)?;
        let metadata = opened.metadata()?;
        check_owner(&metadata, self.user)?;
        if !metadata.is_file() || metadata.len() > self.limit {
            return Err(CacheError::Size(self.limit));
        }
        let mut bytes = Vec::new();
        // It may grow meanwhile.
        (&opened).take(self.limit).read_to_end(&mut bytes)?;
        Ok((opened, bytes))
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
            self.write(file, &bytes)
        });
        if let Err(error) = stored {
            log::warn!(
                "a compiled program is not kept: {}: {error}",
                file.display()
            );
        }
    }

    /// Writes a file that only the user may read. Nobody waits for the disk: what a power cut leaves of it is found by
    /// its sum.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(TEMPORARY_SUFFIX)
            .make_in(&self.folder, |path| options.open(path))?;
        temporary.as_file_mut().write_all(bytes)?;
        temporary.persist(file)?;
        Ok(())
    }

    /// Removes the files that were not used for longest, until `needed` bytes more are within the limit.
    ///
    /// # Errors
    /// More bytes than the limit; files that cannot be removed.
    fn make_room(&self, needed: u64) -> io::Result<()> {
        if needed > self.limit {
            return Err(io::Error::other(format!(
                "it has {needed} bytes, and all together may have {}",
                self.limit
            )));
        }
        let mut files = self.own_files()?;
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total + needed <= self.limit {
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

    /// The files that a cache wrote, with their last use and their size, but not those that another process may be
    /// writing now.
    fn own_files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let temporary = files::temporary_target(&name);
            // Another process may have removed it meanwhile.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if !is_key(temporary.unwrap_or(&name)) || !metadata.is_file() {
                continue;
            }
            let used = metadata.modified()?;
            // A time in the future is young.
            let age = SystemTime::now().duration_since(used).unwrap_or_default();
            if temporary.is_none() || age > WRITING {
                files.push((used, metadata.len(), entry.path()));
            }
        }
        Ok(files)
    }
}

/// Whether a cache calls its files so.
fn is_key(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 64 && name.bytes().all(digit)
}

/// Refuses what belongs to another than `user`, and what others may write to.
fn check_owner(metadata: &fs::Metadata, user: u32) -> Result<(), CacheError> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != user {
        return Err(CacheError::Owner { owner, user });
    }
    match mode & WRITABLE_BY_OTHERS {
        0 => Ok(()),
        _ => Err(CacheError::Mode(mode)),
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
    use std::os::unix::fs::{PermissionsExt, symlink};

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
    fn a_file_that_others_may_have_written_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(folder.path()).unwrap();
        let file = cache.file_of(&parts("a"));
        cache.store(&file, b"code", Duration::from_secs(1));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        for (mode, used) in [(0o620, false), (0o602, false), (0o644, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(cache.load(&file).is_some(), used, "{mode:o}");
        }
        // Nor one somewhere else, or of another user.
        let moved = folder.path().join("moved");
        fs::rename(&file, &moved).unwrap();
        symlink(&moved, &file).unwrap();
        assert!(cache.load(&file).is_none());
        fs::remove_file(&file).unwrap();
        fs::rename(&moved, &file).unwrap();
        assert!(cache.load(&file).is_some());
        let user = cache.user + 1;
        assert!(CompileCache { user, ..cache }.load(&file).is_none());
    }

    fn set_age(path: &Path, hours: u64) {
        let time = SystemTime::now() - Duration::from_secs(hours * 60 * 60);
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_program_that_was_not_used_for_longest_makes_room_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(folder.path()).unwrap();
        let files = ["a", "b", "c", "d"].map(|program| cache.file_of(&parts(program)));
        cache.store(&files[0], &[7; 1000], Duration::from_secs(1));
        let size = fs::metadata(&files[0]).unwrap().len();
        // Two of them, and less than three.
        let limit = 2 * size + size / 2;
        let cache = CompileCache { limit, ..cache };
        cache.store(&files[1], &[7; 1000], Duration::from_secs(1));

        // What is not the cache's is larger than the limit, and older than everything.
        let key = files[0].file_name().unwrap().to_str().unwrap();
        let longer = format!("{key}0");
        let others = [
            "letter.txt",
            &key[1..],
            longer.as_str(),
            ".letter.txt.Ab12Cd.tmp",
        ];
        let others = others.map(|name| folder.path().join(name));
        for other in &others {
            fs::write(other, [0; 5000]).unwrap();
            set_age(other, 100);
        }
        // Temporary files of the cache: of a process that was killed, and of one that may be writing.
        let left = folder.path().join(format!(".{key}.Ab12Cd.tmp"));
        let young = folder.path().join(format!(".{key}.Ef34Gh.tmp"));
        fs::write(&left, "half").unwrap();
        fs::write(&young, "half").unwrap();
        set_age(&left, 50);

        set_age(&files[0], 20);
        set_age(&files[1], 30);
        // Loading is a use.
        assert!(cache.load(&files[1]).is_some());
        cache.store(&files[2], &[7; 1000], Duration::from_secs(1));
        let there = |file: &PathBuf| file.exists();
        assert_eq!(files.each_ref().map(there), [false, true, true, false]);
        assert!(!left.exists() && young.exists());

        // One that is larger than the limit removes nothing, and is not kept.
        cache.store(&files[3], &[7; 5000], Duration::from_secs(1));
        assert_eq!(files.each_ref().map(there), [false, true, true, false]);
        assert!(others.iter().all(there));
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
