//! Classes of images.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use image::imageops::FilterType;
use ndarray::Array3;

use crate::data::{CLASSES, SIDE};

/// Pictures larger than this on a side are refused before they are decoded.
const LARGEST_SIDE: u32 = 16_384;
/// And those that take more memory than this: 89 million RGB pixels.
const MOST_BYTES: u64 = 256 << 20;

/// A class an image may be of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub class: usize,
    /// Softmax of the class's logit.
    pub probability: f64,
}

/// A picture that cannot be classified.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the picture {path}: {reason}; PNG and JPEG files are understood")]
pub struct PictureError {
    path: PathBuf,
    reason: String,
}

/// All classes by falling probability for each of the first `count` rows of `logits` `[N, classes]`.
pub fn predictions(logits: &[f32], count: usize) -> Result<Vec<[Prediction; CLASSES]>> {
    ensure!(
        logits.len() >= count * CLASSES,
        "expected logits of {count} images, got {} values",
        logits.len()
    );
    Ok(logits.as_chunks::<CLASSES>().0[..count]
        .iter()
        .map(ranked)
        .collect())
}

/// The classes of one image by falling probability; of equals the lower label comes first.
pub fn ranked(logits: &[f32; CLASSES]) -> [Prediction; CLASSES] {
    let mut order: [usize; CLASSES] = std::array::from_fn(|class| class);
    // A stable sort.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    // Relative to the largest logit no exponential overflows, and the largest term is 1.
    let largest = logits[order[0]];
    let relative = |class: usize| f64::from(logits[class] - largest).exp();
    let sum: f64 = order.iter().map(|&class| relative(class)).sum();
    order.map(|class| Prediction {
        class,
        probability: relative(class) / sum,
    })
}

/// Reads a PNG or JPEG of any size as an image the network takes, [32, 32, 3]: the largest square in
/// the middle, resized with a triangle filter.
pub fn read_picture(path: &Path) -> Result<Array3<u8>, PictureError> {
    let wrong = |reason: String| PictureError {
        path: path.to_owned(),
        reason,
    };
    let mut reader = image::ImageReader::open(path)
        .and_then(|reader| reader.with_guessed_format())
        .map_err(|error| wrong(error.to_string()))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| wrong(error.to_string()))?;
    let (width, height) = (picture.width(), picture.height());
    let square = width.min(height);
    let small = picture
        .crop_imm((width - square) / 2, (height - square) / 2, square, square)
        .resize_exact(SIDE as u32, SIDE as u32, FilterType::Triangle)
        .into_rgb8();
    Array3::from_shape_vec((SIDE, SIDE, 3), small.into_raw())
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_by_their_softmax_even_when_logits_are_huge() {
        let mut logits = [0.0; CLASSES];
        logits[3] = 4f32.ln();
        logits[7] = 2f32.ln();
        let [first, second, third, ..] = ranked(&logits);
        assert_eq!((first.class, second.class, third.class), (3, 7, 0));
        // 4, 2 and 1 of 4 + 2 + 8
        for (guess, expected) in [
            (first, 4.0 / 14.0),
            (second, 2.0 / 14.0),
            (third, 1.0 / 14.0),
        ] {
            assert!((guess.probability - expected).abs() < 1e-6);
        }
        assert!(ranked(&[1e38; CLASSES])[0].probability.is_finite());
    }

    #[test]
    fn too_few_logits_are_refused() {
        assert!(predictions(&[0.0; 19], 2).is_err());
        assert_eq!(predictions(&[0.0; 25], 2).unwrap().len(), 2);
    }

    #[test]
    fn a_wide_picture_is_cropped_to_its_middle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.png");
        // Red left and right of a green square.
        let picture = image::RgbImage::from_fn(192, 64, |x, _| {
            image::Rgb(if (64..128).contains(&x) {
                [0, 255, 0]
            } else {
                [255, 0, 0]
            })
        });
        picture.save(&path).unwrap();
        let image = read_picture(&path).unwrap();
        assert!(
            image
                .rows()
                .into_iter()
                .all(|pixel| pixel.to_vec() == [0, 255, 0])
        );
    }

    #[test]
    fn a_file_that_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.png");
        std::fs::write(&path, "not a picture").unwrap();
        let message = read_picture(&path).unwrap_err().to_string();
        assert!(message.contains("notes.png"), "{message}");
    }
}
