//! Resizes RGB pictures with a triangle filter.
//!
//! To the bit what the `image` crate's `resize` gives for a crop, which takes several times as long: here rows are
//! contiguous, so the compiler uses vector instructions, and neither the crop nor a picture of floating-point numbers is
//! stored in between.

use image::RgbImage;

const CHANNELS: usize = 3;
/// Values that are summed at once: a pixel, and one more, since vectors have four.
const LANES: usize = 4;

/// The pixels that one pixel of the result is the weighted mean of, along one axis.
pub struct Taps<'a> {
    pub first: usize,
    pub weights: &'a [f32],
}

/// The [`Taps`] of all pixels of the result.
pub struct Filter {
    /// Of each pixel: its first, and where its weights end.
    taps: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Filter {
    /// For each of `to` pixels, which of `there` pixels count how much: a triangle over its own width, or over that of a
    /// pixel of the source if that is wider. They divide the part of the source that begins at `start` and has this
    /// `length`.
    pub fn new(start: f32, length: f32, there: usize, to: usize) -> Self {
        let ratio = length / to as f32;
        let reach = ratio.max(1.0);
        let (mut taps, mut weights) = (Vec::with_capacity(to), Vec::new());
        for place in 0..to {
            let centre = start + (place as f32 + 0.5) * ratio;
            let first = ((centre - reach).floor() as i64).clamp(0, there as i64 - 1);
            let end = ((centre + reach).ceil() as i64).clamp(first + 1, there as i64);
            let weight = |pixel: i64| {
                let distance = ((pixel as f32 - (centre - 0.5)) / reach).abs();
                if distance < 1.0 { 1.0 - distance } else { 0.0 }
            };
            let begin = weights.len();
            weights.extend((first..end).map(weight));
            let these = &mut weights[begin..];
            // In this order, as another one rounds differently.
            let sum = these.iter().fold(0.0, |sum, weight| sum + weight);
            for weight in these {
                *weight /= sum;
            }
            taps.push((first as usize, weights.len()));
        }
        Self { taps, weights }
    }

    /// Pixels of the result.
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Of each pixel.
    pub fn taps(&self) -> impl Iterator<Item = Taps<'_>> {
        (0..self.len()).map(|place| self.at(place))
    }

    /// Of the pixel at `place`.
    pub fn at(&self, place: usize) -> Taps<'_> {
        let begin = place.checked_sub(1).map_or(0, |before| self.taps[before].1);
        let (first, end) = self.taps[place];
        Taps {
            first,
            weights: &self.weights[begin..end],
        }
    }
}

/// The largest central square of `picture` with `side` rows and columns.
pub fn middle_to_side(picture: &RgbImage, side: usize) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let square = width.min(height);
    let (left, top) = ((width - square) / 2, (height - square) / 2);
    let rows = picture.as_raw().chunks_exact(width * CHANNELS);
    let rows = rows.map(|row| &row[left * CHANNELS..][..square * CHANNELS]);
    let rows = rows.skip(top).take(square);
    if square == side {
        return rows.collect::<Vec<_>>().concat();
    }
    let filter = Filter::new(0.0, square as f32, square, side);
    // With a last value that is read and not used.
    let mut sums = vec![0.0; square * CHANNELS + 1];
    let mut pixels = Vec::with_capacity(side * side * CHANNELS);
    for down in filter.taps() {
        sums.fill(0.0);
        for (row, weight) in rows.clone().skip(down.first).zip(down.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f32::from(*value) * weight;
            }
        }
        for across in filter.taps() {
            pixels.extend(mean(&sums[across.first * CHANNELS..], across.weights));
        }
    }
    pixels
}

/// The weighted mean of the pixels that `values` begins with.
fn mean(values: &[f32], weights: &[f32]) -> [u8; CHANNELS] {
    let mut sums = [0.0; LANES];
    for (pixel, weight) in values.windows(LANES).step_by(CHANNELS).zip(weights) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += value * weight;
        }
    }
    let [red, green, blue, _] = sums.map(rounded);
    [red, green, blue]
}

/// `sum`, rounded and within 0 to 255: what `round` gives, which is a call.
fn rounded(sum: f32) -> u8 {
    let sum = sum.clamp(0.0, 255.0);
    let whole = sum as u8;
    match sum - f32::from(whole) >= 0.5 {
        true => whole + 1,
        false => whole,
    }
}

#[cfg(test)]
mod tests {
    use image::DynamicImage;
    use image::imageops::FilterType;

    use super::*;

    #[test]
    fn every_bit_is_that_of_the_image_crate() {
        for (width, height, side) in [
            (500, 375, 224),
            (375, 501, 224),
            (33, 32, 32),
            (32, 33, 31),
            (7, 5, 32),
            (1, 1, 8),
            (1000, 3, 4),
            (224, 225, 223),
            (1200, 900, 32),
        ] {
            let noise = |x: u32, y: u32, channel: u32| {
                let bits = (x * 7919 + y * 104_729 + channel * 31).wrapping_mul(0x9e37_79b9);
                (bits >> 24) as u8
            };
            let picture = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([0, 1, 2].map(|channel| noise(x, y, channel)))
            });
            let got = middle_to_side(&picture, side as usize);
            let square = width.min(height);
            let (left, top) = ((width - square) / 2, (height - square) / 2);
            let expected = DynamicImage::from(picture)
                .crop_imm(left, top, square, square)
                .resize_exact(side, side, FilterType::Triangle)
                .into_rgb8();
            assert!(got == expected.into_raw(), "{width} x {height} to {side}");
        }
    }

    #[test]
    fn halves_are_rounded_up_and_what_is_just_below_them_is_not() {
        for (sum, expected) in [
            (-1.0, 0),
            (0.499_999_97, 0),
            (0.5, 1),
            (127.499_99, 127),
            (254.5, 255),
            (255.0, 255),
            (300.0, 255),
        ] {
            assert_eq!(rounded(sum), expected, "{sum}");
        }
    }
}
