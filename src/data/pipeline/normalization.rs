//! Featurewise normalisation: each channel of the training split gets mean 0 and standard deviation 1.

use crate::data::dataset::{CHANNELS, Split};
use crate::data::sums::Sums;

/// Added to the standard deviation, as in Keras's `ImageDataGenerator.standardize`.
const EPSILON: f32 = 1e-6;

/// Means and population standard deviations of the channels (red, green, blue), in pixel values from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalization {
    /// Those of ImageNet's training images that published weights of PyTorch's expect: 0.485, 0.456 and 0.406, and 0.229,
    /// 0.224 and 0.225, of pixels from 0 to 1.
    pub const IMAGENET: Normalization = Normalization {
        mean: [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0],
        std: [0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0],
    };

    /// The statistics over all images and pixels of a (training) split.
    pub fn of(split: &Split) -> Normalization {
        let mut sums = Sums::default();
        match split.images.sums() {
            Some(of_images) => of_images.iter().for_each(|of_image| sums.add(of_image)),
            None => (split.pixels()).for_each(|image| sums.add(&Sums::of(image))),
        }
        let Sums { values, squares } = sums;
        let count = (split.len() * split.side() * split.side()) as f64;
        let mean = values.map(|sum| sum as f64 / count);
        let std = [0, 1, 2].map(|channel| {
            let mean_square = squares[channel] as f64 / count;
            (mean_square - mean[channel] * mean[channel]).sqrt() as f32
        });
        Normalization {
            mean: mean.map(|mean| mean as f32),
            std,
        }
    }

    /// The pixel value of `value` before normalisation; `channel` is 0, 1, 2 for red, green, blue.
    pub fn pixel(&self, value: f32, channel: usize) -> u8 {
        // Casting a number outside 0..=255 saturates.
        (value * (self.std[channel] + EPSILON) + self.mean[channel]).round() as u8
    }

    /// The factor for a difference from the mean: `1 / (std + 1e-6)`.
    pub fn scale(&self) -> [f32; CHANNELS] {
        self.std.map(|std| 1.0 / (std + EPSILON))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;
    use crate::data::{DatasetKind, Images, PictureOptions, load};

    fn assert_near(got: [f32; 3], expected: [f32; 3]) {
        for (got, expected) in got.into_iter().zip(expected) {
            assert!(
                (got - expected).abs() < 1e-4,
                "expected {expected}, got {got}"
            );
        }
    }

    #[test]
    fn the_deviation_is_that_of_the_population() {
        let values = [0, 10, 7, 4, 20, 7];
        let split = Split {
            images: Images::in_memory(1, values.to_vec()),
            labels: Array1::zeros(2),
        };
        let normalization = Normalization::of(&split);
        assert_eq!(normalization.mean, [2.0, 15.0, 7.0]);
        assert_eq!(normalization.std, [2.0, 5.0, 0.0]);
    }

    #[test]
    fn sums_that_are_known_are_taken_and_no_pixels_looked_at() {
        let images = Images::in_memory(1, vec![0; 6]);
        let known = [[0, 10, 7], [4, 20, 7]].map(|image| Sums::of(&image));
        let split = Split {
            images: images.with_sums(known.to_vec()),
            labels: Array1::zeros(2),
        };
        let normalization = Normalization::of(&split);
        assert_eq!(normalization.mean, [2.0, 15.0, 7.0]);
        assert_eq!(normalization.std, [2.0, 5.0, 0.0]);
    }

    #[test]
    fn the_sample_has_the_statistics_that_numpy_computes() {
        // x = np.fromfile("assets/sample/train.bin", np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 1024)
        // x.astype(np.float64).mean(axis=(0, 2)), x.astype(np.float64).std(axis=(0, 2))
        let sample = load(
            DatasetKind::Sample,
            std::path::Path::new(""),
            PictureOptions::default(),
        )
        .unwrap();
        let normalization = Normalization::of(&sample.train);
        assert_near(normalization.mean, [125.5803, 123.4098, 114.1207]);
        assert_near(normalization.std, [62.6246, 61.8366, 66.5173]);
    }

    #[test]
    fn a_normalised_pixel_gets_its_value_back() {
        let normalization = Normalization {
            mean: [125.0, 123.0, 114.0],
            std: [63.0, 62.0, 66.5],
        };
        for (channel, scale) in normalization.scale().into_iter().enumerate() {
            for value in 0..=255u8 {
                let normalised = (f32::from(value) - normalization.mean[channel]) * scale;
                assert_eq!(normalization.pixel(normalised, channel), value);
            }
            assert_eq!(normalization.pixel(-9.0, channel), 0);
            assert_eq!(normalization.pixel(9.0, channel), 255);
        }
    }
}
