//! Images with their labels, and what they are of.

use ndarray::{Array1, Array4};

/// Rows and columns of an image.
pub const SIDE: usize = 32;
/// Red, green and blue.
pub const CHANNELS: usize = 3;
/// Values of one image.
pub const IMAGE_LEN: usize = SIDE * SIDE * CHANNELS;
/// Number of classes; labels run from 0 to `CLASSES - 1`.
pub const CLASSES: usize = 10;

/// The class names, by label.
pub const CLASS_NAMES: [&str; CLASSES] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `[N, 32, 32, 3]` (NHWC), in standard (row-major) layout.
    pub images: Array4<u8>,
    /// `[N]`, each below [`CLASSES`].
    pub labels: Array1<u8>,
}

impl Split {
    /// The images' pixels, one array each.
    pub fn pixels(&self) -> &[[u8; IMAGE_LEN]] {
        // The images are in standard layout, as promised above.
        let pixels = self.images.as_slice().expect("standard layout");
        pixels.as_chunks().0
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A training and a test split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub train: Split,
    pub test: Split,
}
