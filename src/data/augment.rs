//! Random shifts and flips of one image.
//!
//! `Augment::Keras` follows Keras's `ImageDataGenerator(width_shift_range=0.125, height_shift_range=0.125,
//! horizontal_flip=True, featurewise_center=True, featurewise_std_normalization=True)`: shift, then flip, then
//! normalise.

use super::cifar::{CHANNELS, IMAGE_LEN, SIDE};
use super::normalization::Normalization;
use super::random::{Purpose, Random};

/// The longest shift in pixels: an eighth of the side, which is also the padding of the usual crop.
const MAX_SHIFT: u32 = SIDE as u32 / 8;
/// Values of one row.
const ROW_LEN: usize = SIDE * CHANNELS;

type Row = [f32; ROW_LEN];

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
        let (rows_down, lower_weight) = whole_and_fraction(self.dy);
        let (columns_right, right_weight) = whole_and_fraction(self.dx);
        let mean = in_every_pixel(normalization.mean);
        let scale = in_every_pixel(normalization.scale());

        for (y, out_row) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let y = y as i64 + rows_down;
            let upper = self.row(image, y);
            let lower = self.row(image, y + 1);
            let row = blend(&upper, &lower, lower_weight);

            let left = self.shift_columns(&row, columns_right);
            let right = self.shift_columns(&row, columns_right + 1);
            *out_row = blend(&left, &right, right_weight);

            for ((value, mean), scale) in out_row.iter_mut().zip(&mean).zip(&scale) {
                *value = (*value - mean) * scale;
            }
            if self.flip {
                out_row.as_chunks_mut::<CHANNELS>().0.reverse();
            }
        }
    }

    /// Row `y` of an image, or what lies there outside.
    fn row(&self, image: &[u8; IMAGE_LEN], y: i64) -> Row {
        match self.inside(y) {
            Some(y) => {
                let rows: &[[u8; ROW_LEN]] = image.as_chunks().0;
                rows[y].map(f32::from)
            }
            None => [0.0; ROW_LEN],
        }
    }

    /// `shifted[x] = row[x + columns]`.
    fn shift_columns(&self, row: &Row, columns: i64) -> Row {
        let pixels: &[[f32; CHANNELS]] = row.as_chunks().0;
        let mut shifted = [0.0; ROW_LEN];
        for (x, pixel) in shifted.as_chunks_mut().0.iter_mut().enumerate() {
            if let Some(x) = self.inside(x as i64 + columns) {
                *pixel = pixels[x];
            }
        }
        shifted
    }

    /// The row or column of the image that is seen at a position, if any.
    fn inside(&self, position: i64) -> Option<usize> {
        let nearest = position.clamp(0, SIDE as i64 - 1);
        (self.fill == Fill::Nearest || nearest == position).then_some(nearest as usize)
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

/// `(1 - weight) * a + weight * b`.
fn blend(a: &Row, b: &Row, weight: f32) -> Row {
    std::array::from_fn(|k| (1.0 - weight) * a[k] + weight * b[k])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use byteorder::{LittleEndian, ReadBytesExt};

    use super::super::cifar::parse;
    use super::*;

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
        let mut fixture = &include_bytes!("../../tests/fixtures/augment.bin")[..];
        let sample = &include_bytes!("../../assets/sample/test.bin")[..3073];
        let split = parse(Path::new("test.bin"), sample).unwrap();
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
