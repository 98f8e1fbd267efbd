//! Images with their labels, and a description of both.

use ndarray::{Array1, Array4, Axis, Slice};
use serde::{Deserialize, Serialize};

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
    /// `[N, side, side, 3]` (NHWC), in standard (row-major) layout.
    pub images: Array4<u8>,
    /// `[N]`, each below the number of classes.
    pub labels: Array1<u16>,
}

impl Split {
    /// Rows and columns of an image.
    pub fn side(&self) -> usize {
        self.images.dim().1
    }

    /// The pixels of each image.
    pub fn pixels(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.images.dim().0).map(|index| self.image(index))
    }

    /// The pixels of one image.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn image(&self, index: usize) -> &[u8] {
        let image = self.images.index_axis(Axis(0), index);
        // The images are in standard layout, as documented above.
        image.to_slice().expect("standard layout")
    }

    /// The images before the one with the number `at`, and those from there on.
    ///
    /// # Panics
    /// When there are fewer than `at`.
    pub fn split_at(mut self, at: usize) -> (Split, Split) {
        let (before, from) = (Slice::from(..at), Slice::from(at..));
        let last = Split {
            images: self.images.slice_axis(Axis(0), from).to_owned(),
            labels: self.labels.slice_axis(Axis(0), from).to_owned(),
        };
        self.images.slice_axis_inplace(Axis(0), before);
        self.labels.slice_axis_inplace(Axis(0), before);
        (self, last)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A training and a test split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub spec: DatasetSpec,
    pub train: Split,
    pub test: Split,
}
