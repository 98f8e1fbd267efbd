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
    /// No images of `side` rows and columns.
    pub fn empty(side: usize) -> Split {
        Split {
            images: Array4::zeros((0, side, side, CHANNELS)),
            labels: Array1::zeros(0),
        }
    }

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

    /// Takes out the images for which `is_out` is true, and returns them; both parts keep their order. Takes no more
    /// memory than the images taken out.
    ///
    /// # Panics
    /// When `is_out` does not have a value for each image.
    pub fn take_out(&mut self, is_out: &[bool]) -> Split {
        assert_eq!(is_out.len(), self.len(), "a value for each image");
        let (side, len) = (self.side(), self.side() * self.side() * CHANNELS);
        let images = std::mem::replace(&mut self.images, Array4::zeros((0, side, side, CHANNELS)));
        let mut values = images.into_raw_vec_and_offset().0;
        let mut out = Vec::new();
        let mut kept = 0;
        for (place, is_out) in is_out.iter().enumerate() {
            let image = place * len..(place + 1) * len;
            match is_out {
                true => out.extend_from_slice(&values[image]),
                false => {
                    values.copy_within(image, kept * len);
                    kept += 1;
                }
            }
        }
        values.truncate(kept * len);
        let labels = |wanted| {
            let all = self.labels.iter().zip(is_out);
            let some = all.filter(|(_, is_out)| **is_out == wanted);
            some.map(|(label, _)| *label).collect()
        };
        let taken = Split::of(out, labels(true), side);
        *self = Split::of(values, labels(false), side);
        taken
    }

    /// Of `values`, which are side x side x 3 for each of `labels`.
    pub(super) fn of(values: Vec<u8>, labels: Array1<u16>, side: usize) -> Split {
        let images = Array4::from_shape_vec((labels.len(), side, side, CHANNELS), values);
        Split {
            // The callers count them.
            images: images.expect("the number of values fits the labels"),
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
