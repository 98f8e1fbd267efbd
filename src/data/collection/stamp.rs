//! Tells whether the files of pictures are still those that were decoded.

use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

use super::Collection;
use crate::system::sha256;

/// Counts up when the same picture becomes other pixels than before.
const DECODING: u64 = 2;

/// The sum over what decoded images depend on: path, length and time of change of each file, the labels and classes, the
/// side of the images. Not over the content of the files: reading all of it would take much of the time that a cache saves.
pub fn of(collection: &Collection, side: usize) -> String {
    let mut hasher = Sha256::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    let mut number = |number: u64| hasher.update(number.to_le_bytes());
    number(DECODING);
    number(side as u64);
    for count in collection.counts() {
        number(count as u64);
    }
    for label in collection.all_labels() {
        hasher.update(label.to_le_bytes());
    }
    for name in &collection.class_names {
        hasher.update(name.as_bytes());
        // No name has this byte, so none runs into what follows.
        hasher.update([0]);
    }
    for path in &collection.files {
        let name = path.strip_prefix(collection.folder).unwrap_or(path);
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        // A picture that is not there is one that cannot be read, and is named as such later.
        let Ok(file) = path.metadata() else { continue };
        for number in [file.len(), file.mtime() as u64, file.mtime_nsec() as u64] {
            hasher.update(number.to_le_bytes());
        }
    }
    sha256::finish(hasher)
}
