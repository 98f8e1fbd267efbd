//! A folder of pictures, with a folder for each class.
//!
//! ```text
//!  DIR/train/CLASS/*.jpg with DIR/val/CLASS/* or DIR/test/CLASS/* or both, or DIR/CLASS/*.jpg alone
//!    └─► tree: which pictures there are ─► collection: decoded on worker threads ─► Dataset
//! ```
//!
//! The images are in the order of their file names, and those of equal names in the order of their classes. It is the
//! same on every machine, and numbered files of different classes alternate in it.

mod tree;

use std::path::{Path, PathBuf};

use crate::data::PictureOptions;
use crate::data::collection::{self, Collection, Content, Encoded};
use crate::data::dataset::Dataset;
use crate::data::error::DataError;
use tree::Tree;

/// Loads all pictures as images of `options.side` rows and columns.
pub(super) fn load(folder: &Path, options: PictureOptions) -> Result<Dataset, DataError> {
    let tree = Tree::of(folder)?;
    let parts = [Some(tree.train), tree.validation, tree.test];
    let labels = parts.each_ref().map(|part| {
        let pictures = part.as_ref()?.iter();
        Some(pictures.map(|picture| picture.label).collect())
    });
    let pictures = parts.into_iter().flatten().flatten();
    let files: Vec<PathBuf> = pictures.map(|picture| picture.path).collect();
    let pictures = files.clone().into_iter().map(|path| {
        Ok(Encoded {
            path,
            content: Content::File,
        })
    });
    let collection = Collection {
        name: "folder",
        folder,
        class_names: tree.class_names,
        labels,
        files,
    };
    collection::load(collection, pictures, options)
}
