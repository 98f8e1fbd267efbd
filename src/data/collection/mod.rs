//! Pictures of a user become a data set: decoded on worker threads, into memory, or into a cache file if they are too many
//! for that.
//!
//! ```text
//!  folder, parquet: which pictures there are ─► decode: pixels of each ─┬► memory      ─► Dataset
//!                                                                       └► cache file ◄─ the next start
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `decode` | reads pictures on worker threads |
//! | `cache` | a file with decoded images, from an earlier start |
//! | `stamp` | tells whether the files of the pictures are still the same |
//! | `size` | numbers of bytes as a user writes them |

mod cache;
mod decode;
mod size;
mod stamp;

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use ndarray::Array1;
use sha2::{Digest, Sha256};

use crate::data::PictureOptions;
use crate::data::dataset::{CHANNELS, Dataset, DatasetSpec, Split};
use crate::data::error::DataError;
use crate::data::images::Images;
use crate::data::picture::PictureError;
use crate::data::room::Room;
use crate::system::sha256;
pub use cache::DECODED_IMAGES;
use cache::{CacheFile, Kept};
pub use decode::{Content, Encoded};
use decode::{Decoded, Mark};
pub use size::Size;

/// Most pictures that could not be read which are named one by one.
const MOST_NAMED: usize = 20;
/// What to do when the images do not fit in memory.
const ADVICE: &str = "take a smaller --image-size, fewer pictures, or a smaller --cache-memory, above which they go to a \
                      cache file";

/// Which pictures there are.
pub struct Collection<'a> {
    /// The kind of the data set.
    pub name: &'static str,
    /// The folder that they are in.
    pub folder: &'a Path,
    pub class_names: Vec<String>,
    /// Of the pictures to train on, to validate on, and to test with.
    pub labels: [Option<Vec<u16>>; 3],
    /// The files that have the pictures.
    pub files: Vec<PathBuf>,
}

impl Collection<'_> {
    /// The number of pictures in each part.
    fn counts(&self) -> [usize; 3] {
        let count = |labels: &Option<Vec<u16>>| labels.as_ref().map_or(0, Vec::len);
        [0, 1, 2].map(|part| count(&self.labels[part]))
    }

    /// The label of each picture, one part after another.
    fn all_labels(&self) -> impl Iterator<Item = u16> {
        self.labels.iter().flatten().flatten().copied()
    }
}

/// Decodes `pictures`, all of `collection`, one part after another.
pub fn load(
    collection: Collection,
    pictures: impl Iterator<Item = Result<Encoded, DataError>> + Send,
    options: PictureOptions,
) -> Result<Dataset, DataError> {
    let side = options.side;
    let all: usize = collection.counts().iter().sum();
    let bytes = all as u64 * (side * side * CHANNELS) as u64;
    let mut room = Room::of(collection.folder, ADVICE);
    let most = options.cache_memory.map_or(room.most(), |size| size.0);
    let cache = match bytes > most {
        true => CacheFile::of(&collection, side, options.cache_folder.as_deref())?,
        false => None,
    };
    let (parts, errors, sum) = match cache {
        Some(cache) => {
            let kept = from_cache(&cache, &collection, pictures, &options)?;
            (
                kept.parts(&collection.counts(), side),
                kept.errors,
                kept.sum,
            )
        }
        None => {
            room.take(bytes)?;
            let Decoded {
                parts,
                errors,
                marks,
            } = decode::into_memory(collection.folder, &collection.counts(), pictures, side)?;
            let mut sums = marks.iter().map(|mark| mark.sums);
            let parts = parts.map(|pixels| {
                let images = Images::in_memory(side, pixels);
                let sums = sums.by_ref().take(images.len()).collect();
                images.with_sums(sums)
            });
            let sum = sum(&collection, &marks, &errors);
            report_unread(collection.folder, &errors, all, options.skip_bad)?;
            (parts, errors, sum)
        }
    };
    assemble(collection, parts, &errors, sum, side)
}

/// What `cache` has, or if it has nothing usable, `pictures`, which are decoded into it.
fn from_cache(
    cache: &CacheFile,
    collection: &Collection,
    pictures: impl Iterator<Item = Result<Encoded, DataError>> + Send,
    options: &PictureOptions,
) -> Result<Kept, DataError> {
    let (folder, all) = (collection.folder, collection.counts().iter().sum());
    // Pictures that could not be read may have been mended without a trace.
    let usable = |kept: &Kept| kept.errors.is_empty() || options.skip_bad;
    if let Some(kept) = cache.open(all).filter(usable) {
        log::info!(
            "{}: {all} images from {}, where an earlier start decoded them to",
            folder.display(),
            kept.path.display()
        );
        report_unread(folder, &kept.errors, all, options.skip_bad)?;
        return Ok(kept);
    }
    let side = options.side;
    let bytes = all as u64 * (side * side * CHANNELS) as u64;
    let writing = cache.begin()?;
    log::info!(
        "{}: the images take {} and are decoded to {}, for later starts too",
        folder.display(),
        HumanBytes(bytes),
        writing.path.display()
    );
    let Decoded { errors, marks, .. } =
        decode::into_file(folder, all, pictures, side, writing.file())?;
    report_unread(folder, &errors, all, options.skip_bad)?;
    let sum = sum(collection, &marks, &errors);
    writing.commit(&marks, errors, sum)
}

/// The data set of images in three `parts`, without those of `errors`.
fn assemble(
    collection: Collection,
    parts: [Images; 3],
    errors: &[(usize, PictureError)],
    sum: String,
    side: usize,
) -> Result<Dataset, DataError> {
    let Collection {
        name,
        folder,
        class_names,
        labels,
        ..
    } = collection;
    let mut unread = errors.iter().map(|(place, _)| *place).peekable();
    let mut first = 0;
    let mut splits = [const { None }; 3];
    for (split, (images, labels)) in splits.iter_mut().zip(parts.into_iter().zip(labels)) {
        let Some(labels) = labels else { continue };
        let end = first + labels.len();
        let mut is_unread = vec![false; labels.len()];
        let has_unread = unread.peek().is_some_and(|place| *place < end);
        while let Some(place) = unread.next_if(|place| *place < end) {
            is_unread[place - first] = true;
        }
        let mut part = Split {
            images,
            labels: Array1::from_vec(labels),
        };
        if has_unread {
            drop(part.take_out(&is_unread));
        }
        *split = Some(part);
        first = end;
    }
    let [train, validation, test] = splits;
    let train = train.unwrap_or_else(|| Split::empty(side));
    check_classes(folder, &class_names, &train)?;
    Ok(Dataset {
        name: name.to_owned(),
        spec: DatasetSpec { side, class_names },
        train,
        validation,
        test: test.unwrap_or_else(|| Split::empty(side)),
        stratified: true,
        sum: Some(sum),
    })
}

/// Names the pictures that could not be read, and refuses the data for them unless they are to be skipped.
fn report_unread(
    folder: &Path,
    errors: &[(usize, PictureError)],
    all: usize,
    skip: bool,
) -> Result<(), DataError> {
    for (_, error) in errors.iter().take(MOST_NAMED) {
        match skip {
            true => log::warn!("{error}"),
            false => log::error!("{error}"),
        }
    }
    let unread = errors.len();
    if unread > 0 && skip {
        log::warn!(
            "{}: {unread} of {all} pictures could not be read and are left out (--skip-bad)",
            folder.display()
        );
    }
    if unread == 0 || skip {
        return Ok(());
    }
    Err(DataError::Unread {
        folder: folder.to_owned(),
        unread,
        all,
    })
}

/// The sum over the pictures that could be read: the path within the folder, the content and the label of each, in order.
fn sum(collection: &Collection, marks: &[Mark], errors: &[(usize, PictureError)]) -> String {
    let mut hasher = Sha256::new();
    let mut unread = errors.iter().map(|(place, _)| *place).peekable();
    for (place, (mark, label)) in marks.iter().zip(collection.all_labels()).enumerate() {
        if unread.next_if_eq(&place).is_some() {
            continue;
        }
        hasher.update(mark.name.as_bytes());
        // No name has this byte, so none runs into what follows.
        hasher.update([0]);
        hasher.update(mark.content);
        hasher.update(label.to_le_bytes());
    }
    sha256::finish(hasher)
}

/// Refuses a class that has no pictures.
fn check_classes(folder: &Path, names: &[String], train: &Split) -> Result<(), DataError> {
    match train.class_without_images(names.len()) {
        None => Ok(()),
        Some(class) => Err(DataError::Folder {
            path: folder.to_owned(),
            expected: format!("a picture of the class {:?} that can be read", names[class]),
            got: "none".to_owned(),
        }),
    }
}
