//! A file as memory: what is read of it comes from the disk when it is needed, and leaves memory when others need that.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// The bytes of a file.
#[derive(Debug)]
pub struct Mapped(Mmap);

impl Mapped {
    /// Maps `file`, which nobody may shorten or write to: this program replaces such files by renaming others over them.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes stay as they are. This program never writes to a file under its final name, and the file is
        // next to a run or in the user's own cache, where no other program has business. Its content is only ever read as
        // bytes.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
