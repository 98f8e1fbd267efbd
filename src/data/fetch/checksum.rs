//! SHA-256 sums, in lowercase hexadecimal digits.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::data::error::DataError;

/// The sum of bytes in memory.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// The sum of a file, read in pieces.
pub(super) fn sha256_of_file(path: &Path) -> Result<String, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = Sha256::new();
    loop {
        let piece = reader.fill_buf().map_err(DataError::io("read", path))?;
        if piece.is_empty() {
            return Ok(to_hex(&hasher.finalize()));
        }
        hasher.update(piece);
        let length = piece.len();
        reader.consume(length);
    }
}

/// Fails with [`DataError::Checksum`] when the sum of `file` is not the expected one.
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

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-4, example of a message of one block.
    const SUM_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_sum_of_abc_is_the_published_one() {
        assert_eq!(sha256(b"abc"), SUM_OF_ABC);
    }

    #[test]
    fn a_file_has_the_sum_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), SUM_OF_ABC);
    }
}
