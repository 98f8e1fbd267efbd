//! Checks a file by its SHA-256 sum.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::data::error::DataError;
use crate::system::sha256;

/// The SHA-256 sum of a file, read in pieces.
pub(super) fn sha256_of_file(path: &Path) -> Result<String, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = Sha256::new();
    loop {
        let piece = reader.fill_buf().map_err(DataError::io("read", path))?;
        if piece.is_empty() {
            return Ok(sha256::finish(hasher));
        }
        hasher.update(piece);
        let length = piece.len();
        reader.consume(length);
    }
}

/// Fails with [`DataError::Checksum`] if the sum of `file` is not the expected one.
pub(super) fn expect_sum(
    file: &Path,
    expected: &'static str,
    got: String,
) -> Result<(), DataError> {
    if got == expected {
        return Ok(());
    }
    Err(DataError::Checksum {
        file: file.to_path_buf(),
        expected,
        got,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_sum_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), sha256::sum(b"abc"));
    }
}
