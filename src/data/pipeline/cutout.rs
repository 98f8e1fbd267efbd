//! A square of each training image is blotted out.
//!
//! T. DeVries and G. Taylor, Improved Regularization of Convolutional Neural Networks with Cutout (arXiv 1708.04552): a
//! network that may not see the most telling part of an image has to look at the others too.

use crate::data::pipeline::random::{Purpose, Random};
use crate::data::pipeline::square::Square;

/// The part of an image that it loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutout(Square);

impl Cutout {
    /// The square of `length` rows and columns that one sample, an image of `side` rows and columns, loses in one epoch: a
    /// function of the arguments alone. Its centre is anywhere in the image with the same probability, so that the
    /// image's border may cut it.
    pub fn draw(length: usize, side: usize, seed: u64, epoch: u64, sample: u32) -> Cutout {
        let mut random = Random::new(Purpose::Cutout, seed, epoch, u64::from(sample));
        Cutout(Square::draw(&mut random, length, side))
    }

    /// Gives it the mean colour: 0 in `image`, which is `[side, side, 3]` and normalised.
    pub fn apply(&self, side: usize, image: &mut [f32]) {
        for place in self.0.places(side) {
            image[place].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::CHANNELS;

    #[test]
    fn a_cutout_depends_on_seed_epoch_and_sample_alone() {
        let draw = |seed, epoch, sample| Cutout::draw(8, 512, seed, epoch, sample);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
    }

    #[test]
    fn centres_are_those_of_a_second_implementation() {
        // tests/fixtures/augment_draws.py
        for (epoch, rows, columns) in [(2, 16..17, 15..16), (3, 31..32, 13..14)] {
            let expected = Cutout(Square { rows, columns });
            assert_eq!(Cutout::draw(1, 32, 1, epoch, 4), expected);
        }
    }

    proptest! {
        #[test]
        fn every_value_is_zero_in_the_square_and_as_it_was_around_it(
            (length, side) in (0..40usize, 1..40usize),
            (seed, epoch, sample) in any::<(u64, u64, u32)>(),
            values in prop::collection::vec(any::<f32>(), 39 * 39 * CHANNELS),
        ) {
            let before = &values[..side * side * CHANNELS];
            let mut after = before.to_vec();
            Cutout::draw(length, side, seed, epoch, sample).apply(side, &mut after);

            let mut random = Random::new(Purpose::Cutout, seed, epoch, u64::from(sample));
            let (row, column) = (random.below(side as u32), random.below(side as u32));
            let (length, half) = (length as i64, length as i64 / 2);
            let covers = |centre: u32, at: usize| (0..length).contains(&(at as i64 - i64::from(centre) + half));
            for (at, (got, before)) in after.iter().zip(before).enumerate() {
                let (y, x) = (at / (side * CHANNELS), at / CHANNELS % side);
                let expected = if covers(row, y) && covers(column, x) { 0.0 } else { *before };
                prop_assert_eq!(got.to_bits(), expected.to_bits(), "at {}, {}", y, x);
            }
        }
    }
}
