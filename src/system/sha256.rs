//! SHA-256 sums as people write them: in lowercase hexadecimal digits.

use sha2::{Digest, Sha256};

/// The sum of `bytes`.
pub fn sum(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}

/// The sum of all that `hasher` was given.
pub fn finish(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_abc_is_the_published_one() {
        // FIPS 180-4, example of a message of one block.
        let published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum(b"abc"), published);
    }
}
