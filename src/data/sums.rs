//! Sums of the values of images, from which their mean and deviation follow.

use serde::{Deserialize, Serialize};

use crate::data::dataset::CHANNELS;

/// Sums of the values of each channel and of their squares, which are exact: in whatever order images are added, the result
/// has the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub values: [u64; CHANNELS],
    pub squares: [u64; CHANNELS],
}

impl Sums {
    /// Values that are added at once, so that the processor's vector registers are used: whole pixels.
    const LANES: usize = 16 * CHANNELS;
    /// So many squares of a byte fit in a u32.
    const MOST: usize = (u32::MAX / (255 * 255)) as usize;

    /// Those of an image.
    pub fn of(image: &[u8]) -> Self {
        let mut all = Self::default();
        let (rows, rest) = image.as_chunks::<{ Self::LANES }>();
        for rows in rows.chunks(Self::MOST) {
            let (mut sums, mut squares) = ([0u32; Self::LANES], [0u32; Self::LANES]);
            for row in rows {
                for (lane, value) in row.iter().enumerate() {
                    let value = u32::from(*value);
                    sums[lane] += value;
                    squares[lane] += value * value;
                }
            }
            for (lane, (sum, square)) in sums.into_iter().zip(squares).enumerate() {
                all.values[lane % CHANNELS] += u64::from(sum);
                all.squares[lane % CHANNELS] += u64::from(square);
            }
        }
        for (place, value) in rest.iter().enumerate() {
            let value = u64::from(*value);
            all.values[place % CHANNELS] += value;
            all.squares[place % CHANNELS] += value * value;
        }
        all
    }

    /// Adds those of other images.
    pub fn add(&mut self, other: &Sums) {
        for channel in 0..CHANNELS {
            self.values[channel] += other.values[channel];
            self.squares[channel] += other.squares[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_large_values_and_of_images_of_any_size_are_exact() {
        // More rows of lanes than there is room for the squares of, and a rest.
        let pixels = 16 * (Sums::MOST + 5) + 7;
        let image: Vec<u8> = (0..pixels).flat_map(|_| [255, 1, 0]).collect();
        let mut sums = Sums::of(&image);
        let pixels = pixels as u64;
        assert_eq!(sums.values, [255 * pixels, pixels, 0]);
        assert_eq!(sums.squares, [65_025 * pixels, pixels, 0]);
        sums.add(&Sums::of(&[1, 2, 3]));
        assert_eq!(sums.values, [255 * pixels + 1, pixels + 2, 3]);
        assert_eq!(sums.squares, [65_025 * pixels + 1, pixels + 4, 9]);
    }
}
