//! A square somewhere in an image, cut by the image's border.

use std::ops::Range;

use crate::data::dataset::CHANNELS;
use crate::data::pipeline::random::Random;

/// The part of a square that lies in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Square {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Square {
    /// A square of `length` rows and columns. Its centre is anywhere in an image of `side` rows and columns with the
    /// same probability.
    pub(super) fn draw(random: &mut Random, length: usize, side: usize) -> Square {
        let mut range = || around(random.below(side as u32) as usize, length, side);
        Square {
            rows: range(),
            columns: range(),
        }
    }

    /// The number of pixels.
    pub(super) fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Where the values of each of its rows are in an image `[side, side, 3]`.
    pub(super) fn places(&self, side: usize) -> impl Iterator<Item = Range<usize>> {
        let (start, end) = (self.columns.start, self.columns.end);
        let at = move |row: usize, column: usize| (row * side + column) * CHANNELS;
        self.rows
            .clone()
            .map(move |row| at(row, start)..at(row, end))
    }
}

/// The part of `centre - length / 2`, …, of `length` pixels, that is in 0, …, `side` - 1.
fn around(centre: usize, length: usize, side: usize) -> Range<usize> {
    let end = centre + length - length / 2;
    centre.saturating_sub(length / 2)..end.min(side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pipeline::random::Purpose;

    #[test]
    fn centres_fall_on_each_of_64_pixels_equally_often() {
        let mut counts = [[0; 8]; 8];
        for sample in 0..64_000 {
            // A square of one pixel is its centre.
            let mut random = Random::new(Purpose::Cutout, 0, 0, sample);
            let square = Square::draw(&mut random, 1, 8);
            assert_eq!(square.area(), 1);
            counts[square.rows.start][square.columns.start] += 1;
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
    fn an_even_square_is_that_of_the_papers() {
        // cutout: clip(centre - length // 2, 0, side) to clip(centre + length // 2, 0, side), as CutMix has it too.
        assert_eq!(around(16, 16, 32), 8..24);
        assert_eq!(around(3, 16, 32), 0..11);
        assert_eq!(around(31, 16, 32), 23..32);
        assert_eq!(around(5, 3, 32), 4..7);
    }
}
