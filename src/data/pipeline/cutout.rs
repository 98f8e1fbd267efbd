//! A square of each training image is blotted out.
//!
//! T. DeVries and G. Taylor, Improved Regularization of Convolutional Neural Networks with Cutout (arXiv 1708.04552): a
//! network that may not see the most telling part of an image has to look at the others too.

use std::ops::Range;

use crate::data::dataset::CHANNELS;
use crate::data::pipeline::random::{Purpose, Random};

/// A part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutout {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Cutout {
    /// The square of `length` rows and columns that one sample, an image of `side` rows and columns, loses in one epoch: a
    /// function of the arguments alone. Its centre is anywhere in the image with the same probability, so that the
    /// image's border may cut it.
    pub fn draw(length: usize, side: usize, seed: u64, epoch: u64, sample: u32) -> Cutout {
        let mut random = Random::new(Purpose::Cutout, seed, epoch, u64::from(sample));
        let mut range = || around(random.below(side as u32) as usize, length, side);
        Cutout {
            rows: range(),
            columns: range(),
        }
    }

    /// Gives it the mean colour: 0 in `image`, which is `[side, side, 3]` and normalised.
    pub fn apply(&self, side: usize, image: &mut [f32]) {
        let columns = self.columns.start * CHANNELS..self.columns.end * CHANNELS;
        for row in image
            .chunks_exact_mut(side * CHANNELS)
            .take(self.rows.end)
            .skip(self.rows.start)
        {
            row[columns.clone()].fill(0.0);
        }
    }
}

/// The part of `centre - length / 2`, …, of `length` pixels, that is in 0, …, `side` - 1.
fn around(centre: usize, length: usize, side: usize) -> Range<usize> {
    let end = centre + length - length / 2;
    centre.saturating_sub(length / 2)..end.min(side)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            let expected = Cutout { rows, columns };
            assert_eq!(Cutout::draw(1, 32, 1, epoch, 4), expected);
        }
    }

    #[test]
    fn centres_fall_on_each_of_64_pixels_equally_often() {
        let mut counts = [[0; 8]; 8];
        for sample in 0..64_000 {
            // A square of one pixel is its centre.
            let Cutout { rows, columns } = Cutout::draw(1, 8, 0, 0, sample);
            assert_eq!((rows.len(), columns.len()), (1, 1));
            counts[rows.start][columns.start] += 1;
        }
        // 1,000 on average, with a deviation of 31.
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|count| (840..1160).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_even_square_is_that_of_the_paper() {
        // Their code: clip(centre - length // 2, 0, side) to clip(centre + length // 2, 0, side).
        assert_eq!(around(16, 16, 32), 8..24);
        assert_eq!(around(3, 16, 32), 0..11);
        assert_eq!(around(31, 16, 32), 23..32);
        assert_eq!(around(5, 3, 32), 4..7);
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
