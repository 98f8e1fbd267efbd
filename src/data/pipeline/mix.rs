//! Two training images become one, with the labels of both.
//!
//! - H. Zhang et al., mixup: Beyond Empirical Risk Minimization (arXiv 1710.09412)
//! - S. Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (arXiv 1905.04899)
//!
//! The second image is the next one of the batch, augmented as it is; the last image gets the first one.

use crate::data::pipeline::random::{Purpose, Random};
use crate::data::pipeline::square::Square;

/// How images are mixed. Shares come from the beta distribution Beta(alpha, alpha), with `alpha` above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// mixup: share · image + (1 − share) · second image.
    Blend { alpha: f64 },
    /// CutMix: a square of the area 1 − share is the second image's. The border may cut it; the share is corrected.
    Paste { alpha: f64 },
}

/// What the images of a batch are mixed of; empty if they are not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mixed {
    /// The labels of the second images, `[B]`.
    pub labels: Vec<i32>,
    /// The shares of the first ones, from 0 to 1, `[B]`.
    pub shares: Vec<f32>,
}

/// What happens to one image.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Recipe {
    Blend { share: f32 },
    Paste(Square),
}

impl Mix {
    /// The recipe for one sample, an image of `side` rows and columns, in one epoch: a function of the arguments alone.
    pub(super) fn draw(self, side: usize, seed: u64, epoch: u64, sample: u32) -> Recipe {
        let mut random = Random::new(Purpose::Mix, seed, epoch, u64::from(sample));
        match self {
            Self::Blend { alpha } => Recipe::Blend {
                share: random.beta(alpha) as f32,
            },
            Self::Paste { alpha } => {
                let length = side as f64 * (1.0 - random.beta(alpha)).sqrt();
                Recipe::Paste(Square::draw(&mut random, length as usize, side))
            }
        }
    }
}

impl Recipe {
    /// The share of the first image.
    fn share(&self, side: usize) -> f32 {
        match self {
            Self::Blend { share } => *share,
            Self::Paste(square) => 1.0 - square.area() as f32 / (side * side) as f32,
        }
    }

    /// Mixes `second` into `image`; both are `[side, side, 3]`.
    fn apply(&self, side: usize, image: &mut [f32], second: &[f32]) {
        match self {
            Self::Blend { share } => {
                for (value, other) in image.iter_mut().zip(second) {
                    *value = other + share * (*value - other);
                }
            }
            Self::Paste(square) => {
                for place in square.places(side) {
                    image[place.clone()].copy_from_slice(&second[place]);
                }
            }
        }
    }
}

/// Mixes the `images` `[B, side, side, 3]` with `labels` `[B]`, each by its recipe.
pub(super) fn apply(recipes: &[Recipe], side: usize, images: &mut [f32], labels: &[i32]) -> Mixed {
    let len = images.len() / labels.len();
    let first = images[..len].to_vec();
    for (number, recipe) in recipes.iter().enumerate() {
        let (before, after) = images.split_at_mut((number + 1) * len);
        let second = after.get(..len).unwrap_or(&first);
        recipe.apply(side, &mut before[number * len..], second);
    }
    let (first, others) = labels.split_at(1);
    Mixed {
        labels: [others, first].concat(),
        shares: recipes.iter().map(|recipe| recipe.share(side)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 32;

    #[test]
    fn a_recipe_depends_on_seed_epoch_and_sample_alone() {
        for mix in [Mix::Blend { alpha: 0.5 }, Mix::Paste { alpha: 1.0 }] {
            let draw = |seed, epoch, sample| mix.draw(SIDE, seed, epoch, sample);
            assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
            assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
            assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
            assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
        }
    }

    /// Mean and variance of the shares of many samples.
    fn moments(mix: Mix) -> (f64, f64) {
        const SAMPLES: u32 = 40_000;
        let shares: Vec<f64> = (0..SAMPLES)
            .map(|sample| f64::from(mix.draw(SIDE, 0, 0, sample).share(SIDE)))
            .collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        let mean = shares.iter().sum::<f64>() / f64::from(SAMPLES);
        let squares = shares.iter().map(|share| (share - mean).powi(2));
        (mean, squares.sum::<f64>() / f64::from(SAMPLES))
    }

    #[test]
    fn shares_are_those_of_the_beta_distribution() {
        for alpha in [0.2, 0.9, 1.0, 3.0, 100.0] {
            let (mean, variance) = moments(Mix::Blend { alpha });
            // Of Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)). Five standard errors of the mean; of the variance the
            // standard error is at most variance · sqrt(2 / n), as no beta distribution here has heavier tails than a
            // normal one.
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let error = (expected / 40_000.0f64).sqrt();
            assert!((mean - 0.5).abs() < 5.0 * error, "{alpha}: {mean}");
            let error = expected * (2.0 / 40_000.0f64).sqrt();
            assert!(
                (variance - expected).abs() < 5.0 * error,
                "{alpha}: {variance}"
            );
        }
    }

    #[test]
    fn hardly_any_alpha_mixes_hardly_anything() {
        for alpha in [1e-300, 1e-12, 1e-4] {
            for sample in 0..1000 {
                let share = Mix::Blend { alpha }.draw(SIDE, 0, 0, sample).share(SIDE);
                assert!(share.min(1.0 - share) < 1e-3, "{alpha}: {share}");
            }
        }
    }

    #[test]
    fn a_pasted_square_never_covers_more_than_was_drawn() {
        // The square has (1 - share) of the area, and less where the border cuts it: 1 / 2 on average without that.
        let (mean, _) = moments(Mix::Paste { alpha: 1.0 });
        assert!((0.55..0.85).contains(&mean), "{mean}");
    }

    /// A batch of two images of 2 x 2 pixels: all 1, and all 3.
    fn batch() -> (Vec<f32>, Vec<i32>) {
        ([vec![1.0; 12], vec![3.0; 12]].concat(), vec![7, 8])
    }

    #[test]
    fn each_image_is_mixed_with_the_next_as_it_was() {
        let (mut images, labels) = batch();
        let recipes = [0.75, 0.5].map(|share| Recipe::Blend { share });
        let mixed = apply(&recipes, 2, &mut images, &labels);
        // The second is mixed with the first, whose values were 1.
        assert_eq!(images, [vec![1.5; 12], vec![2.0; 12]].concat());
        assert_eq!(mixed.labels, [8, 7]);
        assert_eq!(mixed.shares, [0.75, 0.5]);
    }

    #[test]
    fn a_pasted_square_is_the_next_images() {
        let (mut images, labels) = batch();
        let square = |rows, columns| Recipe::Paste(Square { rows, columns });
        let recipes = [square(1..2, 0..1), square(0..2, 1..2)];
        let mixed = apply(&recipes, 2, &mut images, &labels);
        let first = [1.0, 1.0, 3.0, 1.0].map(|value| [value; 3]);
        let second = [3.0, 1.0, 3.0, 1.0].map(|value| [value; 3]);
        assert_eq!(images, [first.concat(), second.concat()].concat());
        assert_eq!(mixed.shares, [0.75, 0.5]);
    }

    #[test]
    fn an_image_alone_is_mixed_with_itself() {
        let mut images = vec![2.0; 12];
        let mixed = apply(&[Recipe::Blend { share: 0.25 }], 2, &mut images, &[4]);
        assert_eq!((images, mixed.labels), (vec![2.0; 12], vec![4]));
    }
}
