//! A disk that fails or loses power at any operation, and in the middle of a write.
//!
//! It lives in memory. A power cut keeps what was synced, and of the rest as much as the caller
//! says: real disks keep any part of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Storage;

/// What a power cut does to the bytes of a file that were written but not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Lost,
    /// The first half reached the disk.
    Half,
    /// The file has its length, but the bytes never came.
    Zeros,
    /// The disk was faster than it had to be; also what `kill -9` leaves.
    Kept,
}

impl Unsynced {
    pub const ALL: [Self; 4] = [Self::Lost, Self::Half, Self::Zeros, Self::Kept];
}

/// Where and how the disk fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Operations that succeed before it, counted from the start of [`FaultyDisk::arm`].
    pub after: usize,
    /// If the operation that fails is a write: how many of its bytes are written all the same.
    pub written: usize,
    /// Whether every operation after it fails too, as if the process were dead.
    pub fatal: bool,
}

/// Which syncs the disk confirms without doing anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    pub about_files: bool,
    pub about_folders: bool,
}

/// One operation, and the bytes it was to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub name: &'static str,
    pub bytes: usize,
}

/// The content of a disk: names to bytes.
pub type Content = BTreeMap<PathBuf, Vec<u8>>;

/// A file and how much of it is safe.
#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

/// A change of a folder.
#[derive(Clone)]
enum Change {
    Name { path: PathBuf, inode: usize },
    Unname { path: PathBuf },
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    /// The names as a running process sees them.
    names: BTreeMap<PathBuf, usize>,
    /// The names that a power cut leaves.
    synced_names: BTreeMap<PathBuf, usize>,
    /// The operations that lead from `synced_names` to `names`, each a few changes that happen
    /// together, in order.
    unsynced: Vec<Vec<Change>>,
    operations: Vec<Operation>,
    fault: Option<Fault>,
}

#[derive(Default)]
pub struct FaultyDisk {
    state: RefCell<State>,
    lies: Lies,
}

/// A new file on a [`FaultyDisk`].
pub struct FaultyFile {
    path: PathBuf,
    inode: usize,
}

impl FaultyDisk {
    /// A disk that holds `content`, safely.
    pub fn with(content: &Content, lies: Lies) -> Self {
        let mut state = State::default();
        for (path, bytes) in content {
            state.names.insert(path.clone(), state.inodes.len());
            state.inodes.push(Inode {
                bytes: bytes.clone(),
                synced: bytes.len(),
            });
        }
        state.synced_names = state.names.clone();
        Self {
            state: RefCell::new(state),
            lies,
        }
    }

    /// Has the disk fail from now on as `fault` says.
    pub fn arm(&self, fault: Fault) {
        let mut state = self.state.borrow_mut();
        state.operations.clear();
        state.fault = Some(fault);
    }

    /// The operations so far, those that failed included.
    pub fn operations(&self) -> Vec<Operation> {
        self.state.borrow().operations.clone()
    }

    /// What a running process sees.
    pub fn content(&self) -> Content {
        let state = self.state.borrow();
        state.materialise(&state.names, Unsynced::Kept)
    }

    /// Everything that the disk may hold after power fails now.
    pub fn after_power_cut(&self) -> Vec<Content> {
        let state = self.state.borrow();
        let mut names = state.synced_names.clone();
        let mut contents = Vec::new();
        let mut add = |names: &BTreeMap<PathBuf, usize>| {
            contents.extend(Unsynced::ALL.map(|unsynced| state.materialise(names, unsynced)));
        };
        add(&names);
        for operation in &state.unsynced {
            apply(operation, &mut names);
            add(&names);
        }
        contents
    }
}

impl State {
    fn materialise(&self, names: &BTreeMap<PathBuf, usize>, unsynced: Unsynced) -> Content {
        let files = names.iter();
        files
            .map(|(path, inode)| (path.clone(), self.inodes[*inode].survivor(unsynced)))
            .collect()
    }

    /// Notes an operation that is to write `bytes`; how many of them it may write, and whether it
    /// fails then.
    fn begin(&mut self, name: &'static str, bytes: usize) -> (usize, io::Result<()>) {
        let index = self.operations.len();
        self.operations.push(Operation { name, bytes });
        match self.fault {
            Some(fault) if index == fault.after => (fault.written.min(bytes), Err(full())),
            Some(fault) if index > fault.after && fault.fatal => (0, Err(full())),
            _ => (bytes, Ok(())),
        }
    }

    fn change(&mut self, changes: Vec<Change>) {
        apply(&changes, &mut self.names);
        self.unsynced.push(changes);
    }
}

impl Inode {
    fn survivor(&self, unsynced: Unsynced) -> Vec<u8> {
        let (safe, rest) = self.bytes.split_at(self.synced);
        let mut bytes = safe.to_vec();
        match unsynced {
            Unsynced::Lost => {}
            Unsynced::Half => bytes.extend(&rest[..rest.len() / 2]),
            Unsynced::Zeros => bytes.resize(self.bytes.len(), 0),
            Unsynced::Kept => bytes.extend(rest),
        }
        bytes
    }
}

fn apply(changes: &[Change], names: &mut BTreeMap<PathBuf, usize>) {
    for change in changes {
        match change {
            Change::Name { path, inode } => names.insert(path.clone(), *inode),
            Change::Unname { path } => names.remove(path),
        };
    }
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

impl Storage for FaultyDisk {
    type Temporary = FaultyFile;

    fn create_beside(&self, path: &Path) -> io::Result<FaultyFile> {
        let mut state = self.state.borrow_mut();
        state.begin("create", 0).1?;
        let inode = state.inodes.len();
        let name = path.file_name().unwrap().to_str().unwrap();
        let path = path.with_file_name(format!(".{name}.{inode}.tmp"));
        state.inodes.push(Inode::default());
        state.change(vec![Change::Name {
            path: path.clone(),
            inode,
        }]);
        Ok(FaultyFile { path, inode })
    }

    fn write(&self, file: &mut FaultyFile, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let (count, result) = state.begin("write", bytes.len());
        state.inodes[file.inode].bytes.extend(&bytes[..count]);
        result
    }

    fn sync(&self, file: &FaultyFile) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin("sync", 0).1?;
        if !self.lies.about_files {
            let inode = &mut state.inodes[file.inode];
            inode.synced = inode.bytes.len();
        }
        Ok(())
    }

    fn rename(&self, file: FaultyFile, path: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin("rename", 0).1?;
        state.change(vec![
            Change::Unname { path: file.path },
            Change::Name {
                path: path.to_owned(),
                inode: file.inode,
            },
        ]);
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin("sync folder", 0).1?;
        if !self.lies.about_folders {
            state.synced_names = state.names.clone();
            state.unsynced.clear();
        }
        Ok(())
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state.borrow_mut();
        state.begin("list", 0).1?;
        let paths = state.names.keys();
        Ok(paths
            .filter(|path| path.parent() == Some(folder))
            .cloned()
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin("remove", 0).1?;
        state.change(vec![Change::Unname {
            path: path.to_owned(),
        }]);
        Ok(())
    }

    fn read(&self, path: &Path, _limit: u64) -> io::Result<Vec<u8>> {
        let state = self.state.borrow();
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].bytes.clone())
    }
}
