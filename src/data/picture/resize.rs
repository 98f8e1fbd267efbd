//! Resizes RGB pictures with a triangle filter.
//!
//! To the bit what the `image` crate's `resize` gives, which takes several times as long: here rows are contiguous, so the
//! compiler uses vector instructions, and no picture of floating-point numbers is stored in between.

use image::RgbImage;

const CHANNELS: usize = 3;

/// The pixels that one pixel of the result is the weighted mean of, along one axis.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// `picture` with `side` rows and columns.
pub fn to_side(picture: &RgbImage, side: usize) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if (width, height) == (side, side) {
        return picture.as_raw().clone();
    }
    let (across, down) = (taps(width, side), taps(height, side));
    let mut row = vec![0.0; width * CHANNELS];
    let mut pixels = Vec::with_capacity(side * side * CHANNELS);
    for taps in &down {
        row.fill(0.0);
        let rows = picture.as_raw().chunks_exact(width * CHANNELS);
        for (source, weight) in rows.skip(taps.first).zip(&taps.weights) {
            for (sum, value) in row.iter_mut().zip(source) {
                *sum += f32::from(*value) * weight;
            }
        }
        let row = row.as_chunks::<CHANNELS>().0;
        pixels.extend(across.iter().flat_map(|taps| mean(row, taps)));
    }
    pixels
}

fn mean(row: &[[f32; CHANNELS]], taps: &Taps) -> [u8; CHANNELS] {
    let mut sums = [0.0; CHANNELS];
    for (pixel, weight) in row[taps.first..].iter().zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += value * weight;
        }
    }
    sums.map(|sum| sum.clamp(0.0, 255.0).round() as u8)
}

/// For each of `to` pixels, which of `from` pixels count how much: a triangle over its own width, or over that of a pixel
/// of the source if that is wider.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let ratio = from as f32 / to as f32;
    let reach = ratio.max(1.0);
    let taps = |place: usize| {
        let centre = (place as f32 + 0.5) * ratio;
        let first = ((centre - reach).floor() as i64).clamp(0, from as i64 - 1);
        let end = ((centre + reach).ceil() as i64).clamp(first + 1, from as i64);
        let weight = |pixel: i64| {
            let distance = ((pixel as f32 - (centre - 0.5)) / reach).abs();
            if distance < 1.0 { 1.0 - distance } else { 0.0 }
        };
        let mut weights: Vec<f32> = (first..end).map(weight).collect();
        // In this order, as another one rounds differently.
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        for weight in &mut weights {
            *weight /= sum;
        }
        Taps {
            first: first as usize,
            weights,
        }
    };
    (0..to).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use image::imageops::{self, FilterType};

    use super::*;

    #[test]
    fn every_bit_is_that_of_the_image_crate() {
        for (width, height, side) in [
            (500, 375, 224),
            (375, 500, 224),
            (33, 32, 32),
            (32, 32, 32),
            (7, 5, 32),
            (1, 1, 8),
            (1000, 3, 4),
            (224, 225, 223),
        ] {
            let noise = |x: u32, y: u32, channel: u32| {
                let bits = (x * 7919 + y * 104_729 + channel * 31).wrapping_mul(0x9e37_79b9);
                (bits >> 24) as u8
            };
            let picture = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([0, 1, 2].map(|channel| noise(x, y, channel)))
            });
            let expected = imageops::resize(&picture, side, side, FilterType::Triangle).into_raw();
            let got = to_side(&picture, side as usize);
            assert!(got == expected, "{width} x {height} to {side}");
        }
    }
}
