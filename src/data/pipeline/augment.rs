//! Chooses the random shift and flip of each image.
//!
//! `Augment::Keras` follows Keras's `ImageDataGenerator(width_shift_range=0.125, height_shift_range=0.125,
//! horizontal_flip=True, featurewise_center=True, featurewise_std_normalization=True)`: shift, then flip, then
//! normalise. [`Resampler`](super::resample::Resampler) does all three.
//!
//! `Augment::Translate` follows K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (arXiv 2404.00498): of the two
//! images that a flip makes of one, training sees each in every second epoch, where a coin for each epoch would show
//! some of them again and again.

use crate::data::pipeline::random::{Purpose, Random};

/// The longest shift is the side divided by this. For CIFAR-10 that is 4 pixels, the padding of the usual crop.
const SIDES_PER_SHIFT: usize = 8;

/// The same for `Augment::Translate`: 2 pixels for CIFAR-10, as in the paper.
const SIDES_PER_TRANSLATION: usize = 16;

/// How a training image is changed before it is normalised.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// continuous shifts of up to an eighth of the side, filled with the nearest pixel; random flip
    Keras,
    /// random crops of the image padded with black by an eighth of the side; random flip
    Crop,
    /// whole-pixel shifts of up to a sixteenth of the side, reflected outside; flipped in every other epoch
    Translate,
    /// no augmentation
    None,
}

/// The pixels outside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The nearest pixel of the image.
    Nearest,
    /// Black: 0 before normalisation, as torchvision's `RandomCrop` pads a picture.
    Black,
    /// The image in a mirror that stands on its outermost pixels, which are not repeated: "reflect" of `numpy.pad` and of
    /// PyTorch.
    Reflect,
}

/// The augmentation of one image: `shifted[y, x] = image[y + dy, x + dx]`, then the flip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// Vertical shift, in pixels.
    pub dy: f32,
    /// Horizontal shift, in pixels.
    pub dx: f32,
    /// Whether left and right are swapped.
    pub flip: bool,
    pub fill: Fill,
}

impl Transform {
    /// Leaves an image as it is.
    pub const IDENTITY: Transform = Transform {
        dy: 0.0,
        dx: 0.0,
        flip: false,
        fill: Fill::Nearest,
    };

    /// The transform of one sample, an image of `side` rows and columns, in one epoch; depends only on the arguments.
    pub fn draw(augment: Augment, side: usize, seed: u64, epoch: u64, sample: u32) -> Transform {
        let mut random = Random::new(Purpose::Augment, seed, epoch, u64::from(sample));
        match augment {
            Augment::Keras => {
                let longest = side as f32 / SIDES_PER_SHIFT as f32;
                let mut shift = || (2.0 * random.unit() - 1.0) * longest;
                Transform {
                    dy: shift(),
                    dx: shift(),
                    flip: random.coin(),
                    fill: Fill::Nearest,
                }
            }
            Augment::Crop => {
                let padding = (side / SIDES_PER_SHIFT) as u32;
                Transform {
                    dy: whole_shift(&mut random, padding),
                    dx: whole_shift(&mut random, padding),
                    flip: random.coin(),
                    fill: Fill::Black,
                }
            }
            Augment::Translate => {
                let longest = (side / SIDES_PER_TRANSLATION) as u32;
                Transform {
                    dy: whole_shift(&mut random, longest),
                    dx: whole_shift(&mut random, longest),
                    flip: alternating_flip(seed, epoch, sample),
                    fill: Fill::Reflect,
                }
            }
            Augment::None => Transform::IDENTITY,
        }
    }
}

/// Each of -`longest`, …, `longest` with the same probability.
fn whole_shift(random: &mut Random, longest: u32) -> f32 {
    random.below(2 * longest + 1) as f32 - longest as f32
}

/// A coin of the sample in even epochs, the opposite in odd ones.
fn alternating_flip(seed: u64, epoch: u64, sample: u32) -> bool {
    let first = Random::new(Purpose::Flip, seed, 0, u64::from(sample)).coin();
    first != (epoch % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_depends_on_seed_epoch_and_sample_alone() {
        let draw = |seed, epoch, sample| Transform::draw(Augment::Keras, 32, seed, epoch, sample);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
    }

    #[test]
    fn draws_are_those_of_a_second_implementation() {
        // tests/fixtures/augment_draws.py
        for (augment, epoch, dy, dx, flip) in [
            (Augment::Keras, 2, 0.939_510_35, 3.564_065_5, true),
            (Augment::Keras, 3, -2.269_258_5, -1.467_691_9, false),
            (Augment::Crop, 2, 1.0, 4.0, true),
            (Augment::Crop, 3, -3.0, -2.0, false),
            (Augment::Translate, 2, 1.0, 2.0, false),
            (Augment::Translate, 3, -1.0, -1.0, true),
        ] {
            let got = Transform::draw(augment, 32, 1, epoch, 4);
            assert_eq!((got.dy, got.dx, got.flip), (dy, dx, flip), "{augment:?}");
        }
    }

    fn draws(augment: Augment) -> Vec<Transform> {
        (0..40_000)
            .map(|sample| Transform::draw(augment, 32, 0, 0, sample))
            .collect()
    }

    fn mean(values: impl Iterator<Item = f32>) -> f32 {
        let values: Vec<f32> = values.collect();
        values.iter().sum::<f32>() / values.len() as f32
    }

    #[test]
    fn keras_shifts_are_uniform_up_to_four_pixels() {
        let draws = draws(Augment::Keras);
        assert!(draws.iter().all(|t| t.dy.abs() <= 4.0 && t.dx.abs() <= 4.0));
        // Uniform over 8 pixels: mean 0, variance 64 / 12; five standard errors of 40,000 draws.
        for shift in [|t: &Transform| t.dy, |t: &Transform| t.dx] {
            assert!(mean(draws.iter().map(shift)).abs() < 0.06);
            let variance = mean(draws.iter().map(|t| shift(t) * shift(t)));
            assert!((variance - 64.0 / 12.0).abs() < 0.12, "{variance}");
        }
        assert!(mean(draws.iter().map(|t| t.dy * t.dx)).abs() < 0.14);
        let flips = mean(draws.iter().map(|t| f32::from(u8::from(t.flip))));
        assert!((flips - 0.5).abs() < 0.0125, "{flips}");
    }

    #[test]
    fn crops_fall_on_each_of_81_places_equally_often() {
        let mut counts = [[0; 9]; 9];
        for transform in draws(Augment::Crop) {
            counts[(transform.dy + 4.0) as usize][(transform.dx + 4.0) as usize] += 1;
        }
        // 494 on average, with a deviation of 22.
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|count| (384..604).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn translations_fall_on_each_of_25_places_equally_often() {
        let draws = draws(Augment::Translate);
        assert!(draws.iter().all(|t| t.fill == Fill::Reflect));
        let mut counts = [[0; 5]; 5];
        for transform in &draws {
            counts[(transform.dy + 2.0) as usize][(transform.dx + 2.0) as usize] += 1;
        }
        // 1,600 on average, with a deviation of 39.
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|count| (1400..1800).contains(count)),
            "{counts:?}"
        );
        // Half of them, with a deviation of 100.
        let flips = draws.iter().filter(|t| t.flip).count();
        assert!((19_500..20_500).contains(&flips), "{flips}");
    }

    #[test]
    fn a_translated_image_is_flipped_in_every_other_epoch() {
        let flip =
            |seed, epoch, sample| Transform::draw(Augment::Translate, 32, seed, epoch, sample).flip;
        for sample in 0..1000 {
            let first = flip(5, 0, sample);
            for epoch in 0..6 {
                let expected = first == (epoch % 2 == 0);
                assert_eq!(flip(5, epoch, sample), expected, "{sample} in {epoch}");
            }
        }
        let first = |seed| {
            (0..1000)
                .map(|sample| flip(seed, 0, sample))
                .collect::<Vec<_>>()
        };
        assert_ne!(first(5), first(6));
    }

    #[test]
    fn small_images_are_translated_by_no_pixel() {
        let draw = Transform::draw(Augment::Translate, 15, 1, 2, 3);
        assert_eq!((draw.dy, draw.dx), (0.0, 0.0));
    }
}
