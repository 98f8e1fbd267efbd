//! Random shifts and flips of one image.
//!
//! `Augment::Keras` follows Keras's `ImageDataGenerator(width_shift_range=0.125, height_shift_range=0.125,
//! horizontal_flip=True, featurewise_center=True, featurewise_std_normalization=True)`: shift, then flip, then
//! normalise.

use crate::data::dataset::CHANNELS;
use crate::data::pipeline::normalization::Normalization;
use crate::data::pipeline::random::{Purpose, Random};

/// Rows and columns of the images that this is written for, the only ones so far. A constant, as are the lengths
/// below, so that the compiler unrolls and vectorises the loops over them.
pub const SIDE: usize = 32;
/// Values of one image.
pub const IMAGE_LEN: usize = SIDE * SIDE * CHANNELS;

/// The longest shift in pixels: an eighth of the side, which is also the padding of the usual crop.
const MAX_SHIFT: u32 = SIDE as u32 / 8;
/// Values of one row.
const ROW_LEN: usize = SIDE * CHANNELS;

/// Pixels that the pixels of a row lie between: one more than those.
const WINDOW: usize = SIDE + 1;
/// Values of them.
const WINDOW_LEN: usize = WINDOW * CHANNELS;

type Row = [f32; ROW_LEN];
type Window = [u8; WINDOW_LEN];

/// What happens to a training image before it is normalised.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// continuous shifts of up to an eighth of the side, nearest pixel outside, random flip
    Keras,
    /// crops of the image padded with 4 black pixels, random flip
    Crop,
    /// nothing
    None,
}

/// What lies outside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The nearest pixel of the image.
    Nearest,
    /// Black: 0 before normalisation, as torchvision's `RandomCrop` pads a picture.
    Black,
}

/// What is done to one image: `shifted[y, x] = image[y + dy, x + dx]`, then the flip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// Shift along the rows, in pixels.
    pub dy: f32,
    /// Shift along the columns, in pixels.
    pub dx: f32,
    /// Whether left and right change places.
    pub flip: bool,
    pub fill: Fill,
}

impl Transform {
    /// Leaves an image as it is.
    pub const IDENTITY: Transform = Transform {
        dy: 0.0,
        dx: 0.0,
        flip: false,
        fill: Fill::Nearest,
    };

    /// The transform of one sample in one epoch: a function of the arguments alone.
    pub fn draw(augment: Augment, seed: u64, epoch: u64, sample: u32) -> Transform {
        let mut random = Random::new(Purpose::Augment, seed, epoch, u64::from(sample));
        match augment {
            Augment::Keras => {
                let mut shift = || (2.0 * random.unit() - 1.0) * MAX_SHIFT as f32;
                Transform {
                    dy: shift(),
                    dx: shift(),
                    flip: random.coin(),
                    fill: Fill::Nearest,
                }
            }
            Augment::Crop => {
                let mut shift = || random.below(2 * MAX_SHIFT + 1) as f32 - MAX_SHIFT as f32;
                Transform {
                    dy: shift(),
                    dx: shift(),
                    flip: random.coin(),
                    fill: Fill::Black,
                }
            }
            Augment::None => Transform::IDENTITY,
        }
    }

    /// Transforms and normalises one `[32, 32, 3]` image. Between pixels it interpolates bilinearly, as scipy's
    /// `ndimage.affine_transform(order=1)` does.
    pub fn apply(
        &self,
        image: &[u8; IMAGE_LEN],
        normalization: &Normalization,
        out: &mut [f32; IMAGE_LEN],
    ) {
        let (rows_down, lower) = whole_and_fraction(self.dy);
        let (columns_right, right) = whole_and_fraction(self.dx);
        let windows = self.windows(image, rows_down, columns_right);
        let mean = in_every_pixel(normalization.mean);
        let scale = in_every_pixel(normalization.scale());
        if lower == 0.0 && right == 0.0 {
            self.normalise(&windows, &mean, &scale, out);
        } else {
            self.interpolate(&windows, (lower, right), &mean, &scale, out);
        }
    }

    /// The pixels that the image's values lie between, flipped if the image is.
    fn windows(
        &self,
        image: &[u8; IMAGE_LEN],
        rows_down: i64,
        columns_right: i64,
    ) -> [Window; WINDOW] {
        let rows: &[[u8; ROW_LEN]] = image.as_chunks().0;
        let mut windows = [[0; WINDOW_LEN]; WINDOW];
        for (y, window) in windows.iter_mut().enumerate() {
            let y = y as i64 + rows_down;
            let nearest = y.clamp(0, SIDE as i64 - 1);
            if self.fill == Fill::Nearest || nearest == y {
                self.cut(&rows[nearest as usize], columns_right, window);
            }
        }
        windows
    }

    /// `window[x] = row[x + columns]`, or its mirror image.
    fn cut(&self, row: &[u8; ROW_LEN], columns: i64, window: &mut Window) {
        let pixels: &[[u8; CHANNELS]] = row.as_chunks().0;
        let window: &mut [[u8; CHANNELS]] = window.as_chunks_mut().0;
        // Further away than this nothing changes any more.
        let columns = columns.clamp(-(WINDOW as i64), SIDE as i64);
        let outside_left = (-columns).max(0) as usize;
        let outside_right = (columns + 1).max(0) as usize;
        let first = columns.max(0) as usize;
        let inside = WINDOW - outside_left - outside_right;
        let (left, right) = match self.fill {
            Fill::Nearest => (pixels[0], pixels[SIDE - 1]),
            Fill::Black => ([0; CHANNELS], [0; CHANNELS]),
        };
        window[..outside_left].fill(left);
        window[outside_left..][..inside].copy_from_slice(&pixels[first..][..inside]);
        window[outside_left + inside..].fill(right);
        if self.flip {
            window.reverse();
        }
    }

    /// The values of a shift by whole pixels.
    fn normalise(
        &self,
        windows: &[Window; WINDOW],
        mean: &Row,
        scale: &Row,
        out: &mut [f32; IMAGE_LEN],
    ) {
        // The pixel to the right of the last one is not used; a flip has put it first.
        let first = if self.flip { CHANNELS } else { 0 };
        let out: &mut [Row] = out.as_chunks_mut().0;
        for (out, window) in out.iter_mut().zip(windows) {
            let pixels = &window[first..][..ROW_LEN];
            for k in 0..ROW_LEN {
                out[k] = (f32::from(pixels[k]) - mean[k]) * scale[k];
            }
        }
    }

    /// The values of a shift that ends between pixels, by the weights of the lower and of the right ones.
    fn interpolate(
        &self,
        windows: &[Window; WINDOW],
        (lower, right): (f32, f32),
        mean: &Row,
        scale: &Row,
        out: &mut [f32; IMAGE_LEN],
    ) {
        let (first, second) = match self.flip {
            false => (1.0 - right, right),
            true => (right, 1.0 - right),
        };
        let out: &mut [Row] = out.as_chunks_mut().0;
        for (y, out) in out.iter_mut().enumerate() {
            let mut between = [0.0; WINDOW_LEN];
            for k in 0..WINDOW_LEN {
                let (above, below) = (windows[y][k], windows[y + 1][k]);
                between[k] = (1.0 - lower) * f32::from(above) + lower * f32::from(below);
            }
            for k in 0..ROW_LEN {
                let value = first * between[k] + second * between[k + CHANNELS];
                out[k] = (value - mean[k]) * scale[k];
            }
        }
    }
}

/// `shift` as whole pixels to the left of the point it names and the way from there, in [0, 1).
fn whole_and_fraction(shift: f32) -> (i64, f32) {
    (i64::from(shift.floor() as i32), shift - shift.floor())
}

/// A row that repeats one value per channel.
fn in_every_pixel(channels: [f32; CHANNELS]) -> Row {
    let mut row = [0.0; ROW_LEN];
    row.as_chunks_mut().0.fill(channels);
    row
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use byteorder::{LittleEndian, ReadBytesExt};
    use proptest::prelude::*;

    use super::*;
    use crate::data::records::parse_records;

    /// Leaves pixel values as they are, but for rounding.
    const PLAIN: Normalization = Normalization {
        mean: [0.0; 3],
        std: [1.0; 3],
    };

    /// The red value at row y, column x is `4 y + x`; green and blue are 0.
    fn ramp() -> [u8; IMAGE_LEN] {
        std::array::from_fn(|k| match k % CHANNELS {
            0 => (4 * (k / ROW_LEN) + k % ROW_LEN / CHANNELS) as u8,
            _ => 0,
        })
    }

    fn red(transform: Transform, y: usize, x: usize) -> f32 {
        let mut out = [0.0; IMAGE_LEN];
        transform.apply(&ramp(), &PLAIN, &mut out);
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
        // Made by tests/fixtures/make_augment_fixture.py.
        let mut fixture = &include_bytes!("../../../tests/fixtures/augment.bin")[..];
        let sample = &include_bytes!("../../../assets/sample/test.bin")[..3073];
        let split = parse_records(Path::new("test.bin"), sample).unwrap();
        let image: &[u8; IMAGE_LEN] = split.images.as_slice().unwrap().try_into().unwrap();
        let normalization = Normalization {
            mean: [125.3069, 122.9504, 113.8654],
            std: [62.9932, 62.0887, 66.7049],
        };
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
            transform.apply(image, &normalization, &mut out);
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

    /// The pixel of the definition, one value at a time: `(1 - w) a + w b` down, then across, then normalised.
    fn defined(t: &Transform, image: &[u8; IMAGE_LEN], n: &Normalization, at: usize) -> f32 {
        let (y, x, channel) = (at / ROW_LEN, at % ROW_LEN / CHANNELS, at % CHANNELS);
        let x = if t.flip { SIDE - 1 - x } else { x };
        let pixel = |dy: i64, dx: i64| {
            let y = y as i64 + i64::from(t.dy.floor() as i32) + dy;
            let x = x as i64 + i64::from(t.dx.floor() as i32) + dx;
            let inside = |p: i64| p.clamp(0, SIDE as i64 - 1);
            if t.fill == Fill::Black && (inside(y), inside(x)) != (y, x) {
                return 0.0;
            }
            f32::from(image[(inside(y) as usize * SIDE + inside(x) as usize) * CHANNELS + channel])
        };
        let blend = |a: f32, b: f32, weight: f32| (1.0 - weight) * a + weight * b;
        let (down, across) = (t.dy - t.dy.floor(), t.dx - t.dx.floor());
        let left = blend(pixel(0, 0), pixel(1, 0), down);
        let right = blend(pixel(0, 1), pixel(1, 1), down);
        (blend(left, right, across) - n.mean[channel]) * n.scale()[channel]
    }

    proptest! {
        #[test]
        fn every_value_has_the_bits_of_its_definition(
            (dy, dx) in (-40.0..40f32, -40.0..40f32),
            (whole_y, whole_x, flip, black) in any::<(bool, bool, bool, bool)>(),
            pixels in prop::collection::vec(any::<u8>(), IMAGE_LEN),
        ) {
            let normalization = Normalization {
                mean: [125.3069, 122.9504, 113.8654],
                std: [62.9932, 62.0887, 66.7049],
            };
            let transform = Transform {
                dy: if whole_y { dy.floor() } else { dy },
                dx: if whole_x { dx.floor() } else { dx },
                flip,
                fill: if black { Fill::Black } else { Fill::Nearest },
            };
            let image: &[u8; IMAGE_LEN] = pixels.as_slice().try_into().unwrap();
            let mut out = [0.0; IMAGE_LEN];
            transform.apply(image, &normalization, &mut out);
            for (at, got) in out.iter().enumerate() {
                let expected = defined(&transform, image, &normalization, at);
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
        Transform::IDENTITY.apply(&[26; IMAGE_LEN], &normalization, &mut out);
        assert_near(out[0], 8.0);
        assert_near(out[1], 1.5);
        assert_near(out[2], -0.5);
    }

    #[test]
    fn a_transform_depends_on_seed_epoch_and_sample_alone() {
        let draw = |seed, epoch, sample| Transform::draw(Augment::Keras, seed, epoch, sample);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
    }

    fn draws(augment: Augment) -> Vec<Transform> {
        (0..40_000)
            .map(|sample| Transform::draw(augment, 0, 0, sample))
            .collect()
    }

    fn mean(values: impl Iterator<Item = f32>) -> f32 {
        let values: Vec<f32> = values.collect();
        values.iter().sum::<f32>() / values.len() as f32
    }

    #[test]
    fn keras_shifts_are_uniform_up_to_four_pixels() {
        let draws = draws(Augment::Keras);
        assert!(draws.iter().all(|t| t.dy.abs() <= 4.0 && t.dx.abs() <= 4.0));
        // Uniform over 8 pixels: mean 0, variance 64 / 12; five standard errors of 40,000 draws.
        for shift in [|t: &Transform| t.dy, |t: &Transform| t.dx] {
            assert!(mean(draws.iter().map(shift)).abs() < 0.06);
            let variance = mean(draws.iter().map(|t| shift(t) * shift(t)));
            assert!((variance - 64.0 / 12.0).abs() < 0.12, "{variance}");
        }
        assert!(mean(draws.iter().map(|t| t.dy * t.dx)).abs() < 0.14);
        let flips = mean(draws.iter().map(|t| f32::from(u8::from(t.flip))));
        assert!((flips - 0.5).abs() < 0.0125, "{flips}");
    }

    #[test]
    fn crops_fall_on_each_of_81_places_equally_often() {
        let mut counts = [[0; 9]; 9];
        for transform in draws(Augment::Crop) {
            counts[(transform.dy + 4.0) as usize][(transform.dx + 4.0) as usize] += 1;
        }
        // 494 on average, with a deviation of 22.
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|count| (384..604).contains(count)),
            "{counts:?}"
        );
    }
}
