//! Images with their labels, and a description of both.

use ndarray::{Array1, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::data::images::Images;

/// Red, green and blue.
pub const CHANNELS: usize = 3;

/// The image size and the classes of a data set: what a network for it must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetSpec {
    /// Rows and columns of an image.
    pub side: usize,
    /// Indexed by label; labels start at 0. At most 65,535.
    pub class_names: Vec<String>,
}

impl DatasetSpec {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// The number of values in one image.
    pub fn image_len(&self) -> usize {
        self.side * self.side * CHANNELS
    }
}

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub images: Images,
    /// `[N]`, each below the number of classes.
    pub labels: Array1<u16>,
}

impl Split {
    /// No images of `side` rows and columns.
    pub fn empty(side: usize) -> Split {
        Split {
            images: Images::in_memory(side, Vec::new()),
            labels: Array1::zeros(0),
        }
    }

    /// Rows and columns of an image.
    pub fn side(&self) -> usize {
        self.images.side()
    }

    /// The pixels of each image.
    pub fn pixels(&self) -> impl Iterator<Item = &[u8]> {
        self.images.iter()
    }

    /// The pixels of one image.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn image(&self, index: usize) -> &[u8] {
        self.images.get(index)
    }

    /// The images before the one with the number `at`, and those from there on.
    ///
    /// # Panics
    /// When there are fewer than `at`.
    pub fn split_at(mut self, at: usize) -> (Split, Split) {
        let (before, from) = (Slice::from(..at), Slice::from(at..));
        let last = Split {
            images: self.images.split_off(at),
            labels: self.labels.slice_axis(Axis(0), from).to_owned(),
        };
        self.labels.slice_axis_inplace(Axis(0), before);
        (self, last)
    }

    /// Takes out the images for which `is_out` is true, and returns them; both parts keep their order. Takes no more
    /// memory than the images taken out.
    ///
    /// # Panics
    /// When `is_out` does not have a value for each image.
    pub fn take_out(&mut self, is_out: &[bool]) -> Split {
        assert_eq!(is_out.len(), self.len(), "a value for each image");
        let labels = |wanted| {
            let all = self.labels.iter().zip(is_out);
            let some = all.filter(|(_, is_out)| **is_out == wanted);
            some.map(|(label, _)| *label).collect()
        };
        let (out, kept) = (labels(true), labels(false));
        self.labels = kept;
        Split {
            images: self.images.take_out(is_out),
            labels: out,
        }
    }

    /// Of `values`, which are side x side x 3 for each of `labels`.
    pub(super) fn of(values: Vec<u8>, labels: Array1<u16>, side: usize) -> Split {
        Split {
            images: Images::in_memory(side, values),
            labels,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The first of `classes` labels that no image has.
    pub(super) fn class_without_images(&self, classes: usize) -> Option<usize> {
        let mut has_images = vec![false; classes];
        for label in &self.labels {
            has_images[usize::from(*label)] = true;
        }
        has_images.iter().position(|has| !has)
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// The images of a data set, in up to three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub spec: DatasetSpec,
    pub train: Split,
    /// Images that the data set itself has for validation.
    pub validation: Option<Split>,
    /// Empty where it has none.
    pub test: Split,
    /// Whether training images that are held out are drawn at random, the same share of each class, and are not the last
    /// ones.
    pub stratified: bool,
    /// A SHA-256 sum that tells these images from others in the same place. `None` for the official data sets, which are
    /// verified on every load.
    pub sum: Option<String>,
}
