//! One process at a time: in a run's folder, or fetching into a folder of data.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often a lock is tried, with pauses, before it counts as held: who asks for its [`holder`] has it for a moment.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Holds a lock file until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it; its pid, according to the file.
    #[error("process {pid} is using it")]
    Held { pid: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Lock {
    /// Locks the file at `path`, which is created if needed and holds the owner's pid. The system releases
    /// a dead process's lock, so a stale file does no harm. A symbolic link is not followed. On a file
    /// system without locks, a warning is all.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = open(path)?;
        if !keep_trying(|| try_lock(&file, path))? {
            let pid = pid_in(&mut file)?;
            return Err(LockError::Held { pid });
        }
        Ok(Self::of_this_process(file)?)
    }

    /// [`Lock::take`], but waits until no other process holds it. The log says who does.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let mut file = open(path)?;
        if !try_lock(&file, path)? {
            let pid = pid_in(&mut file)?;
            log::info!("process {pid} holds {}; waiting for it", path.display());
            file.lock()?;
        }
        Self::of_this_process(file)
    }

    /// Writes this process's pid into the locked `file`.
    fn of_this_process(mut file: File) -> io::Result<Self> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// The pid, according to the file at `path`, of the process that holds the lock; `None` if none does, if there is no such
/// file, or on a file system without locks. Nothing is created or changed.
pub fn holder(path: &Path) -> io::Result<Option<String>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Taken for a moment if it is free.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => pid_in(&mut file).map(Some),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether `attempt` succeeds at one of its [`TRIES`].
fn keep_trying(mut attempt: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    for _ in 1..TRIES {
        if attempt()? {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    attempt()
}

/// Tries to lock `file`; false if another process holds it.
fn try_lock(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => {
            log::warn!(
                "this file system has no locks ({}: {error}): see to it that no other process uses the folder",
                path.display()
            );
            Ok(true)
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn pid_in(file: &mut File) -> io::Result<String> {
    let mut pid = String::new();
    file.read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}

/// Whether `error`, from locking a file, means that the file system has no locks, as may be the case on Lustre and NFS.
/// The file is usable then.
fn is_unsupported(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    let unsupported = [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL];
    number.is_some_and(|number| unsupported.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_with_the_pid_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let refused = Lock::take(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn who_asks_for_the_holder_is_told_the_pid_and_leaves_everything_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        assert!(!path.exists());
        let lock = Lock::take(&path).unwrap();
        let own = Some(std::process::id().to_string());
        assert_eq!(holder(&path).unwrap(), own);
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        let _lock = Lock::take(&path).unwrap();
    }

    #[test]
    fn who_only_asks_for_the_holder_is_not_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let asking = open(&path).unwrap();
        asking.lock_shared().unwrap();
        let mut asking = Some(asking);
        let mut tries = 0;
        let file = open(&path).unwrap();
        let locked = keep_trying(|| {
            tries += 1;
            if tries == 3 {
                asking = None;
            }
            try_lock(&file, &path)
        });
        assert!(locked.unwrap() && asking.is_none());
        assert_eq!(tries, 3);
        let mut tries = 0;
        let never = keep_trying(|| {
            tries += 1;
            Ok(false)
        });
        assert_eq!((never.unwrap(), tries), (false, TRIES));
    }

    #[test]
    fn who_waits_has_the_lock_once_its_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let (sender, owned) = std::sync::mpsc::channel();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || {
                let lock = Lock::wait(&path).unwrap();
                sender.send(()).unwrap();
                lock
            })
        };
        // However late that thread comes to it, it cannot own the lock as long as `first` is there.
        assert!(owned.try_recv().is_err());
        drop(first);
        let second = waiting.join().unwrap();
        Lock::take(&path).unwrap_err();
        drop(second);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_file_left_by_a_dead_process_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "99999999999 and more than the new pid").unwrap();
        let _lock = Lock::take(&path).unwrap();
        let content = std::fs::read_to_string(&path).unwrap();
        assert_eq!(content, format!("{}\n", std::process::id()));
    }

    #[test]
    fn only_a_missing_kind_of_lock_counts_as_no_locks() {
        // ENOLCK, ENOSYS, EOPNOTSUPP and EINVAL, then EIO and EACCES, by their numbers on Linux.
        let unsupported = [37, 38, 95, 22, 5, 13]
            .map(|number| is_unsupported(&io::Error::from_raw_os_error(number)));
        assert_eq!(unsupported, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("lock"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        Lock::take(&link).unwrap_err();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    }
}
