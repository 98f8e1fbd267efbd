//! A colour channel: its blocks as pixels, no more of them than the image needs.
//!
//! A block of 8 x 8 coefficients becomes n x m pixels, 1 to 8 each way: the n lowest frequencies, with the mean of their
//! cosines over each pixel. So a large picture gets smaller while it is decoded, as by libjpeg's `scale_num`, and the
//! filter that resizes it has little left to do. Chroma, which most files have with half the resolution, keeps more pixels
//! of each block.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::ops::Range;
use std::sync::LazyLock;

use multiversion::multiversion;

use super::scan::{Block, SIDE};
use crate::data::picture::resize::{Filter, Taps};

/// The pixels of the blocks that the image needs.
pub struct Plane {
    across: Axis,
    down: Axis,
    /// Column after column.
    pixels: Vec<f32>,
    /// From one column to the next: a block's last pixels may be followed by some that are not used.
    stride: usize,
}

/// A picture and a channel of it in one direction.
pub struct Extent {
    /// Pixels of the picture.
    pub picture: usize,
    /// The part of it that becomes the image.
    pub wanted: Range<usize>,
    /// The channel's resolution, and that of the finest channel.
    pub sampling: usize,
    pub finest: usize,
}

/// One direction of a plane.
struct Axis {
    /// Those that are needed.
    blocks: Range<usize>,
    /// Of each block, at most 8.
    pixels: usize,
    /// The part that becomes the image, in pixels of the plane.
    start: f32,
    length: f32,
    /// Pixels of the plane that belong to the picture.
    there: usize,
}

impl Axis {
    /// Where `extent` becomes an image of `side` rows or columns: with no fewer pixels than that if the channel has them.
    fn new(extent: &Extent, side: usize) -> Self {
        let Extent {
            picture,
            ref wanted,
            sampling,
            finest,
        } = *extent;
        let of_block = SIDE * finest;
        let enough = |pixels: &usize| wanted.len() * sampling * pixels >= side * of_block;
        let pixels = (1..SIDE).find(enough).unwrap_or(SIDE);
        let blocks = wanted.start * sampling / of_block..(wanted.end * sampling).div_ceil(of_block);
        let first = blocks.start * pixels;
        let scale = (sampling * pixels) as f32 / of_block as f32;
        Self {
            start: wanted.start as f32 * scale - first as f32,
            length: wanted.len() as f32 * scale,
            there: (picture * sampling * pixels)
                .div_ceil(of_block)
                .min(blocks.end * pixels)
                - first,
            blocks,
            pixels,
        }
    }

    /// The first pixel of the block at `place`, if that is needed.
    fn first_pixel(&self, place: usize) -> Option<usize> {
        let is_needed = self.blocks.contains(&place);
        is_needed.then(|| (place - self.blocks.start) * self.pixels)
    }

    fn filter(&self, side: usize) -> Filter {
        Filter::new(self.start, self.length, self.there, side)
    }

    /// The cosines of the frequencies up to `highest` that a block of so few pixels has.
    fn cosines(&self, highest: usize) -> &'static [[f32; SIDE]] {
        &COSINES[self.pixels - 1][..(highest + 1).min(self.pixels)]
    }
}

/// By the number of pixels less 1: the mean of each frequency's cosine over each pixel.
static COSINES: LazyLock<[[[f32; SIDE]; SIDE]; SIDE]> = LazyLock::new(|| {
    std::array::from_fn(|less| std::array::from_fn(|frequency| cosines(less + 1, frequency)))
});

/// The cosine of `frequency` (ITU-T T.81, A.3.3) where a block has so few `pixels`: the mean over the part of the 8 full
/// ones that each takes the place of, by area.
fn cosines(pixels: usize, frequency: usize) -> [f32; SIDE] {
    if frequency >= pixels {
        return [0.0; SIDE];
    }
    let size = match frequency {
        0 => FRAC_1_SQRT_2 / 2.0,
        _ => 0.5,
    };
    let full = |place: usize| {
        let angle = PI * frequency as f64 * (place as f64 + 0.5) / SIDE as f64;
        size * angle.cos()
    };
    std::array::from_fn(|pixel| match pixel < pixels {
        true => {
            // Each full pixel in as many equal parts as there are pixels: 8 of them make a pixel.
            let parts = SIDE * pixel..SIDE * (pixel + 1);
            let sum: f64 = parts.map(|part| full(part / pixels)).sum();
            (sum / SIDE as f64) as f32
        }
        false => 0.0,
    })
}

impl Plane {
    /// A channel for an image of `side` rows and columns, still without pixels.
    pub fn new(across: &Extent, down: &Extent, side: usize) -> Self {
        let (across, down) = (Axis::new(across, side), Axis::new(down, side));
        let stride = down.blocks.len() * down.pixels + SIDE - down.pixels;
        Self {
            pixels: vec![0.0; across.blocks.len() * across.pixels * stride],
            across,
            down,
            stride,
        }
    }

    /// Sets the pixels of the block in `column` and `row`. In each column the blocks must come from top to bottom.
    pub fn put(&mut self, column: usize, row: usize, block: &Block) {
        let first = self.across.first_pixel(column);
        let Some((left, top)) = first.zip(self.down.first_pixel(row)) else {
            return;
        };
        let across = self.across.cosines(block.highest_across);
        let down = self.down.cosines(block.highest_down);
        let columns = self.across.pixels;
        let place = &mut self.pixels[left * self.stride + top..];
        set(place, self.stride, columns, (across, down), block);
    }

    /// The plane with `side` columns.
    pub fn with_columns(&self, side: usize) -> Narrowed {
        let mut pixels = vec![0.0; self.down.there * side];
        narrow(
            &self.pixels,
            self.stride,
            &self.across.filter(side),
            &mut pixels,
        );
        Narrowed {
            pixels,
            down: self.down.filter(side),
        }
    }
}

/// Sets `columns` of pixels in `place`, which begin `stride` from each other, to those of `block`: the sums of these
/// cosines. A column gets 8 pixels: those beyond the block's own are set again by the next block, or not used.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn set(
    place: &mut [f32],
    stride: usize,
    columns: usize,
    (across, down): (&[[f32; SIDE]], &[[f32; SIDE]]),
    block: &Block,
) {
    let coefficients = block.coefficients.as_chunks::<SIDE>().0;
    for (column, place) in place.chunks_mut(stride).take(columns).enumerate() {
        let mut of_column = [0.0; SIDE];
        for (cosines, coefficients) in across.iter().zip(coefficients) {
            add(&mut of_column, cosines[column], coefficients);
        }
        let mut pixels = [0.0; SIDE];
        for (cosines, coefficient) in down.iter().zip(of_column) {
            add(&mut pixels, coefficient, cosines);
        }
        if let Some(place) = place.first_chunk_mut() {
            *place = pixels;
        }
    }
}

/// Adds `values` times `factor`.
#[inline(always)]
fn add(sums: &mut [f32; SIDE], factor: f32, values: &[f32; SIDE]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value * factor;
    }
}

/// Columns that begin `stride` from each other, as rows of so many columns as `filter` has.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn narrow(columns: &[f32], stride: usize, filter: &Filter, rows: &mut [f32]) {
    let width = filter.len();
    let mut sums = vec![0.0; rows.len() / width];
    for (place, taps) in filter.taps().enumerate() {
        weigh(columns, stride, taps, &mut sums);
        for (row, sum) in rows.chunks_exact_mut(width).zip(&sums) {
            row[place] = *sum;
        }
    }
}

/// The weighted mean of `lines` that begin `stride` from each other.
#[inline(always)]
fn weigh(lines: &[f32], stride: usize, taps: Taps, mean: &mut [f32]) {
    mean.fill(0.0);
    let lines = lines.chunks_exact(stride).skip(taps.first);
    for (line, weight) in lines.zip(taps.weights) {
        for (sum, value) in mean.iter_mut().zip(line) {
            *sum += value * weight;
        }
    }
}

/// A plane that has the columns of the image, and still its own rows.
pub struct Narrowed {
    /// Row after row.
    pixels: Vec<f32>,
    down: Filter,
}

impl Narrowed {
    /// The row of the image at `place`.
    pub fn row(&self, place: usize, row: &mut [f32]) {
        mean_row(&self.pixels, self.down.at(place), row);
    }
}

#[multiversion(targets("x86_64+avx2+bmi2"))]
fn mean_row(rows: &[f32], taps: Taps, row: &mut [f32]) {
    weigh(rows, row.len(), taps, row);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::picture::jpeg::scan::BLOCK;

    /// The pixels of a block alone, `pixels` each way, row by row: by the standard's formula, and the areas that they cover.
    fn expected(coefficients: &[f32; BLOCK], pixels: usize) -> Vec<f64> {
        let one = |frequency: usize, pixel: usize| {
            let size = if frequency == 0 { 0.5f64.sqrt() } else { 1.0 };
            let at = |x: usize| {
                let angle = (2 * x + 1) as f64 * frequency as f64 * PI / 16.0;
                size * angle.cos() / 2.0
            };
            // From here to there in full pixels.
            let ends = [pixel, pixel + 1].map(|end| (end * SIDE) as f64 / pixels as f64);
            let shares = (0..SIDE).map(|x| {
                let [from, to] = [ends[0].max(x as f64), ends[1].min(x as f64 + 1.0)];
                (to - from).max(0.0) * at(x)
            });
            shares.sum::<f64>() * pixels as f64 / SIDE as f64
        };
        let pixel = |row: usize, column: usize| {
            let frequencies =
                (0..pixels).flat_map(|across| (0..pixels).map(move |down| (across, down)));
            let each = frequencies.map(|(across, down)| {
                f64::from(coefficients[SIDE * across + down]) * one(across, column) * one(down, row)
            });
            each.sum()
        };
        (0..pixels * pixels)
            .map(|place| pixel(place / pixels, place % pixels))
            .collect()
    }

    #[test]
    fn a_block_becomes_the_mean_of_its_lowest_frequencies_in_every_size() {
        let coefficients = std::array::from_fn(|n| ((n * 37 + 11) % 101) as f32 - 50.0);
        let block = Block {
            coefficients,
            highest_across: 7,
            highest_down: 7,
        };
        for side in 1..=SIDE {
            let extent = Extent {
                picture: 8,
                wanted: 0..8,
                sampling: 1,
                finest: 1,
            };
            let mut plane = Plane::new(&extent, &extent, side);
            plane.put(0, 0, &block);
            // A block that is not needed changes nothing.
            plane.put(1, 0, &block);
            plane.put(0, 1, &block);
            let image = plane.with_columns(side);
            let mut row = vec![0.0; side];
            for (place, expected) in expected(&coefficients, side).chunks(side).enumerate() {
                image.row(place, &mut row);
                for (got, expected) in row.iter().zip(expected) {
                    let difference = (f64::from(*got) - expected).abs();
                    assert!(difference < 1e-3, "{side}, row {place}: {got}, {expected}");
                }
            }
        }
    }

    #[test]
    fn the_middle_of_a_channel_of_half_the_resolution_keeps_its_place() {
        // Columns 62 to 437 of 500, and so 31 to 218.5 of the channel: blocks 3 to 27 of its 32.
        let extent = Extent {
            picture: 500,
            wanted: 62..437,
            sampling: 1,
            finest: 2,
        };
        let axis = Axis::new(&extent, 100);
        // 187.5 x 5 / 8 pixels are 117, and 4 / 8 would be 94.
        assert_eq!((axis.blocks, axis.pixels), (3..28, 5));
        assert_eq!(
            (axis.start, axis.length),
            (31.0 * 0.625 - 15.0, 187.5 * 0.625)
        );
        assert_eq!(axis.there, 25 * 5);
    }
}
