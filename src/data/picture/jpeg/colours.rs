//! From the channels of a JPEG to red, green and blue.

use std::ops::Range;

use image::metadata::Orientation;
use multiversion::multiversion;

use super::plane::{Extent, Plane};
use super::scan::{Block, Place, Scan};
use crate::data::dataset::CHANNELS;

/// What zero of the first channel stands for: the middle of 0 to 255.
const MIDDLE: f32 = 128.0;

/// The channels of a picture.
pub struct Channels {
    /// A grey one, or luma and the two of chroma.
    planes: Vec<Plane>,
}

impl Channels {
    /// Those that `scan` has, for an image of `side` rows and columns of the picture's middle once it is turned upright;
    /// `None` if there are others.
    pub fn of(scan: &Scan, side: usize, orientation: Orientation) -> Option<Self> {
        let planes = 0..scan.parts.len();
        [1, 3].contains(&planes.len()).then(|| Self {
            planes: planes
                .map(|part| plane(scan, part, side, orientation))
                .collect(),
        })
    }

    /// Whether the image needs the block at `place`.
    #[inline]
    pub fn need(&self, place: Place) -> bool {
        self.planes[place.part].needs(place.column, place.row)
    }

    /// Sets the pixels of `block`, which the image needs.
    #[inline]
    pub fn put(&mut self, place: Place, block: &Block) {
        self.planes[place.part].put(place.column, place.row, block);
    }

    /// Takes over a row of units of the scan, all of whose blocks were read.
    pub fn end_row(&mut self) {
        for plane in &mut self.planes {
            plane.end_row();
        }
    }

    /// The image `[side, side, 3]`, once all blocks were read.
    pub fn image(&self, side: usize) -> Vec<u8> {
        let mut image = vec![0; side * side * CHANNELS];
        let rows = image.chunks_exact_mut(side * CHANNELS).enumerate();
        if let [luma] = &self.planes[..] {
            let mut values = vec![0.0; side];
            for (place, row) in rows {
                luma.row(place, &mut values);
                for (pixel, value) in row.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(&values) {
                    *pixel = [byte(*value) as u8; CHANNELS];
                }
            }
            return image;
        }
        let mut values = [0, 1, 2].map(|_| vec![0.0; side]);
        // With a last byte that is not used.
        let mut bytes = vec![0; side * CHANNELS + 1];
        let mut pixels = vec![0; side];
        for (place, row) in rows {
            for (plane, values) in self.planes.iter().zip(&mut values) {
                plane.row(place, values);
            }
            colour(&values, &mut pixels, &mut bytes);
            row.copy_from_slice(&bytes[..side * CHANNELS]);
        }
        image
    }
}

/// The channel of `part`, without pixels.
fn plane(scan: &Scan, part: usize, side: usize, orientation: Orientation) -> Plane {
    let component = scan.parts[part].component;
    let square = scan.width.min(scan.height);
    let (last_column_first, last_row_first) = reversed(orientation);
    let across = Extent {
        picture: scan.width,
        wanted: middle(scan.width, square, last_column_first),
        sampling: component.across,
        finest: scan.most_across,
    };
    let down = Extent {
        picture: scan.height,
        wanted: middle(scan.height, square, last_row_first),
        sampling: component.down,
        finest: scan.most_down,
    };
    let (_, rows) = scan.blocks_of_unit(part);
    Plane::new(&across, &down, rows, side)
}

/// Whether the columns, and whether the rows of a picture begin with the last one when it is turned upright, as
/// `orientation` says.
fn reversed(orientation: Orientation) -> (bool, bool) {
    match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
        Orientation::FlipHorizontal | Orientation::Rotate270 => (true, false),
        Orientation::FlipVertical | Orientation::Rotate90 => (false, true),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
    }
}

/// The middle `wanted` of `all`. What is left over is halved; if it is odd, the end has one more than the beginning, or
/// with `last_first` the beginning.
fn middle(all: usize, wanted: usize, last_first: bool) -> Range<usize> {
    let left_over = all - wanted;
    let first = match last_first {
        false => left_over / 2,
        true => left_over.div_ceil(2),
    };
    first..first + wanted
}

/// A row of red, green and blue `bytes`, and one byte more, from one of luma and chroma (JFIF 1.02). `pixels` are in between.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn colour([luma, blue_less, red_less]: &[Vec<f32>; 3], pixels: &mut [u32], bytes: &mut [u8]) {
    // One loop for each colour, which the compiler can turn into vector instructions.
    for ((pixel, luma), red_less) in pixels.iter_mut().zip(luma).zip(red_less) {
        *pixel = byte(luma + 1.402 * red_less);
    }
    let chroma = blue_less.iter().zip(red_less);
    for ((pixel, luma), (blue_less, red_less)) in pixels.iter_mut().zip(luma).zip(chroma) {
        *pixel |= byte(luma - 0.344_136 * blue_less - 0.714_136 * red_less) << 8;
    }
    for ((pixel, luma), blue_less) in pixels.iter_mut().zip(luma).zip(blue_less) {
        *pixel |= byte(luma + 1.772 * blue_less) << 16;
    }
    for (place, pixel) in pixels.iter().enumerate() {
        // The fourth byte is set again by the next pixel.
        bytes[CHANNELS * place..][..4].copy_from_slice(&pixel.to_le_bytes());
    }
}

/// `value`, from around 0, rounded and within 0 to 255.
#[inline(always)]
fn byte(value: f32) -> u32 {
    // A float this large has its whole numbers in its last bits. A cast of floats to integers would be several
    // instructions for each.
    const WHOLE: f32 = (1 << 23) as f32;
    ((value + MIDDLE).clamp(0.0, 255.0) + WHOLE).to_bits() & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_and_kept_within_a_byte() {
        for (value, expected) in [
            (-500.0, 0),
            (-128.0, 0),
            (-127.4, 1),
            (0.4, 128),
            (0.6, 129),
            (127.0, 255),
            (500.0, 255),
        ] {
            assert_eq!(byte(value), expected, "{value}");
        }
    }

    #[test]
    fn luma_and_chroma_become_the_colours_that_they_stand_for() {
        // Y, Cb and Cr of white, black, and the full red, green and blue (JFIF 1.02, from the formulas of the other way).
        let [y, cb, cr] = [
            |r: f32, g: f32, b: f32| 0.299 * r + 0.587 * g + 0.114 * b,
            |r: f32, g: f32, b: f32| -0.168_736 * r - 0.331_264 * g + 0.5 * b,
            |r: f32, g: f32, b: f32| 0.5 * r - 0.418_688 * g - 0.081_312 * b,
        ];
        let colours = [
            [255, 255, 255],
            [0, 0, 0],
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
        ];
        for expected in colours {
            let [r, g, b] = expected.map(|value: u8| f32::from(value));
            let row = [y(r, g, b) - MIDDLE, cb(r, g, b), cr(r, g, b)].map(|value| vec![value]);
            let mut bytes = [0; 4];
            colour(&row, &mut [0], &mut bytes);
            assert_eq!(bytes[..3], expected);
        }
    }
}
