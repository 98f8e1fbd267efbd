//! One image, shifted, flipped and normalised.

use std::mem::swap;

use crate::data::dataset::CHANNELS;
use crate::data::pipeline::augment::{Fill, Transform};
use crate::data::pipeline::normalization::Normalization;

/// Transforms and normalises images of one size. Holds what all images share, and buffers.
///
/// Interpolates bilinearly between pixels, as scipy's `ndimage.affine_transform(order=1)` does.
#[derive(Debug)]
pub struct Resampler {
    /// Rows and columns of an image.
    side: usize,
    /// Subtracted from each value of a row.
    mean: Vec<f32>,
    /// Multiplies each value after that.
    scale: Vec<f32>,
    /// `side + 1` pixels of the source row above the current output row, and (in `lower`) of the one below it;
    /// flipped if the image is.
    upper: Vec<u8>,
    lower: Vec<u8>,
    /// The two rows blended.
    between: Vec<f32>,
}

impl Resampler {
    /// A resampler for images of `side` rows and columns.
    pub fn new(side: usize, normalization: &Normalization) -> Resampler {
        let pixels = side + 1;
        Resampler {
            side,
            mean: normalization.mean.repeat(side),
            scale: normalization.scale().repeat(side),
            upper: vec![0; pixels * CHANNELS],
            lower: vec![0; pixels * CHANNELS],
            between: vec![0.0; pixels * CHANNELS],
        }
    }

    /// Transforms and normalises one `[side, side, 3]` image into `out`, which has the same shape.
    ///
    /// # Panics
    /// If either has the wrong length.
    pub fn apply(&mut self, transform: &Transform, image: &[u8], out: &mut [f32]) {
        let len = self.side * self.side * CHANNELS;
        assert_eq!((image.len(), out.len()), (len, len), "values of an image");
        let (rows_down, lower) = whole_and_fraction(transform.dy);
        let (columns_right, right) = whole_and_fraction(transform.dx);
        let source = Source {
            image,
            side: self.side,
            columns_right,
            flip: transform.flip,
            fill: transform.fill,
        };
        let row_len = self.side * CHANNELS;
        let rows = out.chunks_exact_mut(row_len).zip(rows_down..);
        if lower == 0.0 && right == 0.0 {
            for (out, y) in rows {
                source.cut(y, &mut self.upper);
                self.normalise(transform.flip, out);
            }
            return;
        }
        source.cut(rows_down, &mut self.lower);
        for (out, y) in rows {
            swap(&mut self.upper, &mut self.lower);
            source.cut(y + 1, &mut self.lower);
            self.interpolate(transform.flip, (lower, right), out);
        }
    }

    /// Computes an output row for a shift by whole pixels.
    fn normalise(&self, flip: bool, out: &mut [f32]) {
        // The extra pixel on the right is not used; if flipped, it comes first.
        let first = if flip { CHANNELS } else { 0 };
        let pixels = &self.upper[first..][..out.len()];
        let (mean, scale) = (&self.mean[..out.len()], &self.scale[..out.len()]);
        for k in 0..out.len() {
            out[k] = (f32::from(pixels[k]) - mean[k]) * scale[k];
        }
    }

    /// Computes an output row for a shift by a fraction of a pixel; `lower` and `right` are the weights of the lower
    /// and the right pixels.
    fn interpolate(&mut self, flip: bool, (lower, right): (f32, f32), out: &mut [f32]) {
        let (first, second) = match flip {
            false => (1.0 - right, right),
            true => (right, 1.0 - right),
        };
        let rows = self.upper.iter().zip(&self.lower);
        for (between, (&above, &below)) in self.between.iter_mut().zip(rows) {
            *between = (1.0 - lower) * f32::from(above) + lower * f32::from(below);
        }
        let here = &self.between[..out.len()];
        let next = &self.between[CHANNELS..][..out.len()];
        let (mean, scale) = (&self.mean[..out.len()], &self.scale[..out.len()]);
        for k in 0..out.len() {
            let value = first * here[k] + second * next[k];
            out[k] = (value - mean[k]) * scale[k];
        }
    }
}

/// An image, and which of its pixels to read.
struct Source<'a> {
    /// `[side, side, 3]`
    image: &'a [u8],
    side: usize,
    columns_right: i64,
    flip: bool,
    fill: Fill,
}

impl Source<'_> {
    /// `window[x] = image[y, x + columns_right]`, or its mirror image.
    fn cut(&self, y: i64, window: &mut [u8]) {
        let nearest = y.clamp(0, self.side as i64 - 1);
        if self.fill == Fill::Black && nearest != y {
            window.fill(0);
            return;
        }
        let row_len = self.side * CHANNELS;
        let row = &self.image[nearest as usize * row_len..][..row_len];
        let pixels: &[[u8; CHANNELS]] = row.as_chunks().0;
        let window: &mut [[u8; CHANNELS]] = window.as_chunks_mut().0;
        // Larger shifts give the same result.
        let columns = self
            .columns_right
            .clamp(-(self.side as i64 + 1), self.side as i64);
        let outside_left = (-columns).max(0) as usize;
        let outside_right = (columns + 1).max(0) as usize;
        let first = columns.max(0) as usize;
        let inside = window.len() - outside_left - outside_right;
        let (left, right) = match self.fill {
            Fill::Nearest => (pixels[0], pixels[self.side - 1]),
            Fill::Black => ([0; CHANNELS], [0; CHANNELS]),
        };
        window[..outside_left].fill(left);
        window[outside_left..][..inside].copy_from_slice(&pixels[first..][..inside]);
        window[outside_left + inside..].fill(right);
        if self.flip {
            window.reverse();
        }
    }
}

/// Splits `shift` into whole pixels, rounded down, and the fraction in [0, 1).
fn whole_and_fraction(shift: f32) -> (i64, f32) {
    (i64::from(shift.floor() as i32), shift - shift.floor())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use byteorder::{LittleEndian, ReadBytesExt};
    use proptest::prelude::*;

    use super::*;
    use crate::data::records::parse_records;
    use crate::data::test_split::PLAIN;

    const CIFAR: Normalization = Normalization {
        mean: [125.3069, 122.9504, 113.8654],
        std: [62.9932, 62.0887, 66.7049],
    };

    const SIDE: usize = 32;
    const ROW_LEN: usize = SIDE * CHANNELS;
    const IMAGE_LEN: usize = SIDE * ROW_LEN;

    /// The red value at row y, column x is `4 y + x`; green and blue are 0.
    fn ramp() -> [u8; IMAGE_LEN] {
        std::array::from_fn(|k| match k % CHANNELS {
            0 => (4 * (k / ROW_LEN) + k % ROW_LEN / CHANNELS) as u8,
            _ => 0,
        })
    }

    fn red(transform: Transform, y: usize, x: usize) -> f32 {
        let mut out = [0.0; IMAGE_LEN];
        Resampler::new(SIDE, &PLAIN).apply(&transform, &ramp(), &mut out);
        out[y * ROW_LEN + x * CHANNELS]
    }

    fn assert_near(got: f32, expected: f32) {
        assert!(
            (got - expected).abs() < 1e-3,
            "expected {expected}, got {got}"
        );
    }

    #[test]
    fn every_case_equals_what_keras_computes() {
        // Written by tests/fixtures/make_augment_fixture.py.
        let mut fixture = &include_bytes!("../../../tests/fixtures/augment.bin")[..];
        let sample = &include_bytes!("../../../assets/sample/test.bin")[..3073];
        let split = parse_records(Path::new("test.bin"), sample).unwrap();
        let mut resampler = Resampler::new(SIDE, &CIFAR);
        let mut cases = 0;
        while !fixture.is_empty() {
            let mut read = || fixture.read_f32::<LittleEndian>().unwrap();
            let transform = Transform {
                dy: read(),
                dx: read(),
                flip: read() == 1.0,
                fill: Fill::Nearest,
            };
            let mut out = [0.0; IMAGE_LEN];
            resampler.apply(&transform, split.image(0), &mut out);
            for (position, got) in out.iter().enumerate() {
                let expected = read();
                assert!(
                    (got - expected).abs() < 1e-5,
                    "{transform:?}, value {position}: expected {expected}, got {got}"
                );
            }
            cases += 1;
        }
        assert_eq!(cases, 7);
    }

    #[test]
    fn between_pixels_values_are_interpolated_bilinearly() {
        let transform = Transform {
            dy: 1.5,
            dx: -0.25,
            ..Transform::IDENTITY
        };
        // Row 5 + 1.5, column 8 - 0.25 of the ramp.
        assert_near(red(transform, 5, 8), 4.0 * 6.5 + 7.75);
    }

    #[test]
    fn keras_repeats_the_nearest_pixel_outside() {
        let transform = Transform {
            dy: 4.0,
            dx: -4.0,
            ..Transform::IDENTITY
        };
        assert_near(red(transform, 30, 2), 4.0 * 31.0);
    }

    #[test]
    fn a_crop_shows_black_outside() {
        let transform = Transform {
            dy: 4.0,
            dx: -4.0,
            flip: false,
            fill: Fill::Black,
        };
        assert_near(red(transform, 27, 5), 4.0 * 31.0 + 1.0);
        assert_near(red(transform, 27, 3), 0.0);
        assert_near(red(transform, 28, 5), 0.0);
    }

    #[test]
    fn the_flip_comes_after_the_shift() {
        let transform = Transform {
            dx: 3.0,
            flip: true,
            ..Transform::IDENTITY
        };
        // Column 10 of the flipped image is column 21 of the shifted one and 24 of the original.
        assert_near(red(transform, 0, 10), 24.0);
    }

    #[test]
    fn a_shift_of_any_size_is_safe() {
        for dx in [f32::MAX, f32::MIN, f32::NAN] {
            red(
                Transform {
                    dx,
                    ..Transform::IDENTITY
                },
                0,
                0,
            );
        }
    }

    /// The value by definition: `(1 - w) a + w b` vertically, then horizontally, then normalised.
    fn defined(t: &Transform, image: &[u8], side: usize, at: usize) -> f32 {
        let (y, x, channel) = (at / (side * CHANNELS), at / CHANNELS % side, at % CHANNELS);
        let x = if t.flip { side - 1 - x } else { x };
        let pixel = |dy: i64, dx: i64| {
            let y = y as i64 + i64::from(t.dy.floor() as i32) + dy;
            let x = x as i64 + i64::from(t.dx.floor() as i32) + dx;
            let inside = |p: i64| p.clamp(0, side as i64 - 1);
            if t.fill == Fill::Black && (inside(y), inside(x)) != (y, x) {
                return 0.0;
            }
            f32::from(image[(inside(y) as usize * side + inside(x) as usize) * CHANNELS + channel])
        };
        let blend = |a: f32, b: f32, weight: f32| (1.0 - weight) * a + weight * b;
        let (down, across) = (t.dy - t.dy.floor(), t.dx - t.dx.floor());
        let left = blend(pixel(0, 0), pixel(1, 0), down);
        let right = blend(pixel(0, 1), pixel(1, 1), down);
        (blend(left, right, across) - CIFAR.mean[channel]) * CIFAR.scale()[channel]
    }

    proptest! {
        #[test]
        fn every_value_has_the_bits_of_its_definition(
            (dy, dx) in (-40.0..40f32, -40.0..40f32),
            (whole_y, whole_x, flip, black) in any::<(bool, bool, bool, bool)>(),
            side in 1..40usize,
            pixels in prop::collection::vec(any::<u8>(), 39 * 39 * CHANNELS),
        ) {
            let transform = Transform {
                dy: if whole_y { dy.floor() } else { dy },
                dx: if whole_x { dx.floor() } else { dx },
                flip,
                fill: if black { Fill::Black } else { Fill::Nearest },
            };
            let image = &pixels[..side * side * CHANNELS];
            let mut out = vec![0.0; image.len()];
            Resampler::new(side, &CIFAR).apply(&transform, image, &mut out);
            for (at, got) in out.iter().enumerate() {
                let expected = defined(&transform, image, side, at);
                prop_assert_eq!(got.to_bits(), expected.to_bits(), "{:?} at {}", transform, at);
            }
        }
    }

    #[test]
    fn values_are_normalised_by_channel() {
        let normalization = Normalization {
            mean: [10.0, 20.0, 30.0],
            std: [2.0, 4.0, 8.0],
        };
        let mut out = [0.0; IMAGE_LEN];
        Resampler::new(SIDE, &normalization).apply(
            &Transform::IDENTITY,
            &[26; IMAGE_LEN],
            &mut out,
        );
        assert_near(out[0], 8.0);
        assert_near(out[1], 1.5);
        assert_near(out[2], -0.5);
    }
}
