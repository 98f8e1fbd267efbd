//! The sums of a folder's files, as `sha256sum` writes and checks them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::ProgramFolderError;
use crate::system::files::{Disk, Storage};
use crate::system::sha256;

/// The file that they are in.
pub const SUMS: &str = "SHA256SUMS";
/// Longer files are not read: a computation of 10,001 layers is a tenth of it.
const LIMIT: u64 = 1 << 30;

/// The sum of each file.
#[derive(Default)]
pub struct Sums {
    of: BTreeMap<String, String>,
}

impl Sums {
    pub fn add(&mut self, file: &str, content: &[u8]) {
        self.of.insert(file.to_owned(), sha256::sum(content));
    }

    /// The sums in the folder `path`.
    pub fn read(path: &Path) -> Result<Self, ProgramFolderError> {
        let path = path.join(SUMS);
        let bytes = read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut sums = Self::default();
        for line in text.lines() {
            let Some((sum, file)) = line.split_once("  ") else {
                return Err(ProgramFolderError::Content {
                    path,
                    reason: format!("expected a sum and a file on each line, got {line:?}"),
                });
            };
            sums.of.insert(file.to_owned(), sum.to_owned());
        }
        Ok(sums)
    }

    /// The content of `file` in the folder `path`, which must have its sum.
    pub fn read_checked(&self, path: &Path, file: &str) -> Result<Vec<u8>, ProgramFolderError> {
        let Some(expected) = self.of.get(file) else {
            return Err(ProgramFolderError::Content {
                path: path.join(SUMS),
                reason: format!("it has no sum of {file}"),
            });
        };
        let path = path.join(file);
        let content = read(&path)?;
        let got = sha256::sum(&content);
        if got != *expected {
            let expected = expected.clone();
            return Err(ProgramFolderError::Sum {
                path,
                expected,
                got,
            });
        }
        Ok(content)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ProgramFolderError> {
    Disk.read(path, LIMIT)
        .map_err(|reason| ProgramFolderError::Read {
            path: path.to_owned(),
            reason,
        })
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut lines = self.of.iter();
        lines.try_for_each(|(file, sum)| writeln!(f, "{sum}  {file}"))
    }
}
