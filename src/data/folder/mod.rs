//! A folder of pictures, with a folder for each class.
//!
//! ```text
//!  DIR/train/CLASS/*.jpg with DIR/val/CLASS/* or DIR/test/CLASS/* or both, or DIR/CLASS/*.jpg alone
//!    └─► tree: which pictures there are ─► decode: picture::read on worker threads ─► Dataset
//! ```
//!
//! The images are in the order of their file names, and those of equal names in the order of their classes. It is the
//! same on every machine, and numbered files of different classes alternate in it.

mod decode;
mod tree;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::data::PictureOptions;
use crate::data::dataset::{CHANNELS, Dataset, DatasetSpec, Split};
use crate::data::error::DataError;
use crate::data::room::Room;
use crate::system::sha256;
use decode::Decoded;
use tree::{Picture, Tree};

/// Most pictures that could not be read which are named one by one.
const MOST_NAMED: usize = 20;

/// Loads all pictures as images of `options.side` rows and columns.
pub(super) fn load(folder: &Path, options: PictureOptions) -> Result<Dataset, DataError> {
    let tree = Tree::of(folder)?;
    let parts = [
        Some(&tree.train),
        tree.validation.as_ref(),
        tree.test.as_ref(),
    ];
    let pictures: usize = parts.iter().flatten().map(|part| part.len()).sum();
    let bytes = pictures as u64 * (options.side * options.side * CHANNELS) as u64;
    let advice = "take a smaller --image-size, or fewer pictures";
    Room::of(folder, advice).take(bytes)?;

    let decode = |part: &Vec<Picture>| decode::decode(folder, part, options.side);
    let [train, validation, test] = parts.map(|part| part.map(decode).transpose());
    let mut parts = [train?, validation?, test?];
    report_unread(folder, &parts, pictures, options.skip_bad)?;
    let sum = sum(folder, &tree, &parts)?;
    for part in parts.iter_mut().flatten() {
        leave_out_unread(part);
    }
    let [train, validation, test] = parts.map(|part| part.map(|part| part.split));
    let train = train.unwrap_or_else(|| Split::empty(options.side));
    check_classes(folder, &tree.class_names, &train)?;
    Ok(Dataset {
        name: "folder".to_owned(),
        spec: DatasetSpec {
            side: options.side,
            class_names: tree.class_names,
        },
        train,
        validation,
        test: test.unwrap_or_else(|| Split::empty(options.side)),
        stratified: true,
        sum: Some(sum),
    })
}

/// Names the pictures that could not be read, and refuses the data for them unless they are to be skipped.
fn report_unread(
    folder: &Path,
    parts: &[Option<Decoded>],
    all: usize,
    skip: bool,
) -> Result<(), DataError> {
    let errors: Vec<_> = parts
        .iter()
        .flatten()
        .flat_map(|part| &part.errors)
        .collect();
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

/// The sum over the pictures that could be read: the path within `folder`, the length of the file and the label of each,
/// in order. Not over their content, which would have to be read a second time.
fn sum(folder: &Path, tree: &Tree, parts: &[Option<Decoded>; 3]) -> Result<String, DataError> {
    let mut hasher = Sha256::new();
    let pictures = [
        Some(&tree.train),
        tree.validation.as_ref(),
        tree.test.as_ref(),
    ];
    for (pictures, part) in pictures.into_iter().flatten().zip(parts.iter().flatten()) {
        let mut unread = part.errors.iter().map(|(place, _)| *place).peekable();
        for (place, Picture { path, label }) in pictures.iter().enumerate() {
            if unread.next_if_eq(&place).is_some() {
                continue;
            }
            let length = path.metadata().map_err(DataError::io("read", path))?.len();
            let name = path.strip_prefix(folder).unwrap_or(path);
            hasher.update(name.as_os_str().as_encoded_bytes());
            // No name has this byte, so none runs into what follows.
            hasher.update([0]);
            hasher.update(length.to_le_bytes());
            hasher.update(label.to_le_bytes());
        }
    }
    Ok(sha256::finish(hasher))
}

fn leave_out_unread(part: &mut Decoded) {
    let mut unread = vec![false; part.split.len()];
    for (place, _) in &part.errors {
        unread[*place] = true;
    }
    if !part.errors.is_empty() {
        drop(part.split.take_out(&unread));
    }
}

/// Refuses a class that has lost all its pictures.
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
