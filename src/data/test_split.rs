//! A split for tests in which each image's values are its number.

use std::sync::Arc;

use ndarray::{Array1, Array4};

use crate::data::dataset::{CHANNELS, Split};
use crate::data::pipeline::batches::Batch;
use crate::data::pipeline::normalization::Normalization;

/// Different from CIFAR-10, to show that any side works.
pub(super) const SIDE: usize = 20;
pub(super) const IMAGE_LEN: usize = SIDE * SIDE * CHANNELS;

/// Leaves pixel values unchanged, except for rounding.
pub(super) const PLAIN: Normalization = Normalization {
    mean: [0.0; 3],
    std: [1.0; 3],
};

/// `n` images; every value of image `i` is `i`, its label the last digit of `i`.
pub(super) fn numbered(n: usize) -> Arc<Split> {
    let number = |i: usize| u8::try_from(i).unwrap();
    Arc::new(Split {
        images: Array4::from_shape_fn((n, SIDE, SIDE, CHANNELS), |(i, ..)| number(i)).into(),
        labels: Array1::from_shape_fn(n, |i| u16::from(number(i) % 10)),
    })
}

/// The numbers of the images in a batch that was not augmented.
pub(super) fn numbers(batch: &Batch) -> Vec<usize> {
    (0..batch.count)
        .map(|slot| {
            let number = batch.images[slot * IMAGE_LEN].round() as usize;
            assert_eq!(batch.labels[slot], (number % 10) as i32);
            number
        })
        .collect()
}
