//! One image, shifted, flipped and normalised.

use std::mem::swap;

use crate::data::dataset::CHANNELS;
use crate::data::pipeline::augment::{Fill, Transform};
use crate::data::pipeline::normalization::Normalization;

const BLACK: [u8; CHANNELS] = [0; CHANNELS];

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
        let window: &mut [[u8; CHANNELS]] = window.as_chunks_mut().0;
        let Some(pixels) = self.row(y) else {
            window.fill(BLACK);
            return;
        };
        let columns = self.columns();
        let outside_left = (-columns).max(0) as usize;
        let outside_right = (columns + 1).max(0) as usize;
        let first = columns.max(0) as usize;
        let inside = window.len() - outside_left - outside_right;
        let (left, others) = window.split_at_mut(outside_left);
        let (middle, right) = others.split_at_mut(inside);
        middle.copy_from_slice(&pixels[first..][..inside]);
        match self.fill {
            Fill::Nearest => {
                left.fill(pixels[0]);
                right.fill(pixels[self.side - 1]);
            }
            Fill::Black => {
                left.fill(BLACK);
                right.fill(BLACK);
            }
            Fill::Reflect => {
                self.reflect(pixels, columns, left);
                self.reflect(pixels, self.side as i64, right);
            }
        }
        if self.flip {
            window.reverse();
        }
    }

    /// The pixels of row `y`, or of that which stands for it; none where it is black.
    fn row(&self, y: i64) -> Option<&[[u8; CHANNELS]]> {
        let nearest = y.clamp(0, self.side as i64 - 1);
        let row = match self.fill {
            Fill::Nearest => nearest,
            Fill::Black => (nearest == y).then_some(y)?,
            Fill::Reflect => reflected(y, self.side),
        };
        let row_len = self.side * CHANNELS;
        let values = &self.image[row as usize * row_len..][..row_len];
        Some(values.as_chunks().0)
    }

    /// The first column of the window, between one window to the left of the image and one to its right.
    fn columns(&self) -> i64 {
        let side = self.side as i64;
        match self.fill {
            // Further away than this nothing changes any more.
            Fill::Nearest | Fill::Black => self.columns_right.clamp(-(side + 1), side),
            Fill::Reflect => {
                (self.columns_right + side - 1).rem_euclid(reflection_period(self.side))
                    - (side - 1)
            }
        }
    }

    /// The columns from `first` on, all of them outside.
    fn reflect(&self, pixels: &[[u8; CHANNELS]], first: i64, window: &mut [[u8; CHANNELS]]) {
        for (pixel, column) in window.iter_mut().zip(first..) {
            *pixel = pixels[reflected(column, self.side) as usize];
        }
    }
}

/// After how many pixels an image between two mirrors is the same again. One pixel is the same everywhere.
fn reflection_period(side: usize) -> i64 {
    (2 * (side as i64 - 1)).max(1)
}

/// The pixel, of 0, …, `side` - 1, that is seen at `position` where mirrors stand on the first and on the last one.
fn reflected(position: i64, side: usize) -> i64 {
    let period = reflection_period(side);
    let position = position.rem_euclid(period);
    position.min(period - position)
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
    fn a_reflection_equals_what_numpy_pads_with() {
        // Made by tests/fixtures/make_reflect_fixture.py: value k of the image is k.
        const SIDE: usize = 5;
        const PADDING: usize = 7;
        const PADDED: usize = SIDE + 2 * PADDING;
        let padded = include_bytes!("../../../tests/fixtures/reflect.bin");
        assert_eq!(padded.len(), PADDED * PADDED * CHANNELS);
        let image: [u8; SIDE * SIDE * CHANNELS] = std::array::from_fn(|k| k as u8);
        let mut resampler = Resampler::new(SIDE, &PLAIN);
        let longest = PADDING as i32;
        for (dy, dx) in
            (-longest..=longest).flat_map(|dy| (-longest..=longest).map(move |dx| (dy, dx)))
        {
            let transform = Transform {
                dy: dy as f32,
                dx: dx as f32,
                flip: false,
                fill: Fill::Reflect,
            };
            let mut out = [0.0; SIDE * SIDE * CHANNELS];
            resampler.apply(&transform, &image, &mut out);
            for (at, got) in out.into_iter().enumerate() {
                let y = at / (SIDE * CHANNELS) + (dy + longest) as usize;
                let x = at / CHANNELS % SIDE + (dx + longest) as usize;
                let expected = padded[(y * PADDED + x) * CHANNELS + at % CHANNELS];
                assert_near(got, f32::from(expected));
            }
        }
    }

    #[test]
    fn a_shift_of_any_size_is_safe() {
        for fill in [Fill::Nearest, Fill::Black, Fill::Reflect] {
            for far in [f32::MAX, f32::MIN, f32::NAN] {
                let transform = Transform {
                    dy: far,
                    dx: far,
                    flip: false,
                    fill,
                };
                red(transform, 0, 0);
            }
        }
    }

    /// The value by definition: `(1 - w) a + w b` vertically, then horizontally, then normalised.
    fn defined(t: &Transform, image: &[u8], side: usize, at: usize) -> f32 {
        let (y, x, channel) = (at / (side * CHANNELS), at / CHANNELS % side, at % CHANNELS);
        let x = if t.flip { side - 1 - x } else { x };
        let pixel = |dy: i64, dx: i64| {
            let y = y as i64 + i64::from(t.dy.floor() as i32) + dy;
            let x = x as i64 + i64::from(t.dx.floor() as i32) + dx;
            let nearest = |p: i64| p.clamp(0, side as i64 - 1);
            if t.fill == Fill::Black && (nearest(y), nearest(x)) != (y, x) {
                return 0.0;
            }
            let inside = |p| match t.fill {
                Fill::Nearest | Fill::Black => nearest(p),
                Fill::Reflect => bounced(p, side as i64 - 1),
            };
            f32::from(image[(inside(y) as usize * side + inside(x) as usize) * CHANNELS + channel])
        };
        let blend = |a: f32, b: f32, weight: f32| (1.0 - weight) * a + weight * b;
        let (down, across) = (t.dy - t.dy.floor(), t.dx - t.dx.floor());
        let left = blend(pixel(0, 0), pixel(1, 0), down);
        let right = blend(pixel(0, 1), pixel(1, 1), down);
        (blend(left, right, across) - CIFAR.mean[channel]) * CIFAR.scale()[channel]
    }

    /// Where a ball is that has come to `position` and is sent back by walls at 0 and `last`.
    fn bounced(mut position: i64, last: i64) -> i64 {
        while last > 0 && !(0..=last).contains(&position) {
            position = match position < 0 {
                true => -position,
                false => 2 * last - position,
            };
        }
        position.clamp(0, last)
    }

    proptest! {
        #[test]
        fn every_value_has_the_bits_of_its_definition(
            (dy, dx) in (-40.0..40f32, -40.0..40f32),
            (whole_y, whole_x, flip) in any::<(bool, bool, bool)>(),
            fill in prop::sample::select(&[Fill::Nearest, Fill::Black, Fill::Reflect][..]),
            side in 1..40usize,
            pixels in prop::collection::vec(any::<u8>(), 39 * 39 * CHANNELS),
        ) {
            let transform = Transform {
                dy: if whole_y { dy.floor() } else { dy },
                dx: if whole_x { dx.floor() } else { dx },
                flip,
                fill,
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
