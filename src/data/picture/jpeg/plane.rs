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

/// A column of a block's pixels; those beyond the block's own are 0.
type Column = [f32; SIDE];

/// A colour channel of the image. A row of blocks gets the columns of the image as soon as all of it was read, so that its
/// pixels never leave the processor's caches.
pub struct Plane {
    across: Axis,
    down: Axis,
    columns: Filter,
    rows: Filter,
    /// For each row of blocks in a unit: its pixels, column after column.
    strips: Vec<Vec<Column>>,
    /// The row of blocks that the first of them is for.
    row: usize,
    /// The rows that were read, each with the columns of the image.
    pixels: Vec<f32>,
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
    /// Those of a block of so few pixels.
    cosines: &'static Cosines,
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
            cosines: &COSINES[pixels - 1],
        }
    }

    fn filter(&self, side: usize) -> Filter {
        Filter::new(self.start, self.length, self.there, side)
    }
}

/// The mean of each frequency's cosine over each pixel.
type Cosines = [Column; SIDE];

/// By the number of pixels less 1.
static COSINES: LazyLock<[Cosines; SIDE]> = LazyLock::new(|| {
    std::array::from_fn(|less| std::array::from_fn(|frequency| cosines(less + 1, frequency)))
});

/// The cosine of `frequency` (ITU-T T.81, A.3.3) where a block has so few `pixels`: the mean over the part of the 8 full
/// ones that each takes the place of, by area.
fn cosines(pixels: usize, frequency: usize) -> Column {
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
    /// A channel for an image of `side` rows and columns, still without pixels; a unit of the scan has so many `rows` of
    /// its blocks.
    pub fn new(across: &Extent, down: &Extent, rows: usize, side: usize) -> Self {
        let (across, down) = (Axis::new(across, side), Axis::new(down, side));
        let strip = vec![[0.0; SIDE]; across.blocks.len() * across.pixels];
        Self {
            columns: across.filter(side),
            rows: down.filter(side),
            strips: vec![strip; rows],
            row: 0,
            pixels: Vec::with_capacity(down.there * side),
            across,
            down,
        }
    }

    /// Whether the image needs the block in `column` and `row`.
    #[inline]
    pub fn needs(&self, column: usize, row: usize) -> bool {
        self.across.blocks.contains(&column) && self.down.blocks.contains(&row)
    }

    /// Sets the pixels of the block in `column` and `row`, which the image needs.
    pub fn put(&mut self, column: usize, row: usize, block: &Block) {
        let left = (column - self.across.blocks.start) * self.across.pixels;
        let place = &mut self.strips[row - self.row][left..][..self.across.pixels];
        set(place, self.across.cosines, self.down.cosines, block);
    }

    /// Takes over the rows of a row of units, all of whose blocks were set.
    pub fn end_row(&mut self) {
        let width = self.columns.len();
        for (row, strip) in (self.row..).zip(&self.strips) {
            if self.down.blocks.contains(&row) {
                let begin = self.pixels.len();
                let end = begin + self.down.pixels * width;
                self.pixels.resize(end.min(self.down.there * width), 0.0);
                narrow(strip, &self.columns, &mut self.pixels[begin..]);
            }
        }
        self.row += self.strips.len();
    }

    /// The row of the image at `place`, once all rows were taken over.
    pub fn row(&self, place: usize, row: &mut [f32]) {
        mean_row(&self.pixels, self.rows.at(place), row);
    }
}

/// Sets these `columns` of pixels to those of `block`: the sums of its cosines.
// Of all frequencies, even if a block has few: how many it has cannot be predicted, and a wrong guess takes longer.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn set(columns: &mut [Column], across: &Cosines, down: &Cosines, block: &Block) {
    let coefficients = block.as_chunks::<SIDE>().0;
    for (place, column) in columns.iter_mut().enumerate() {
        let mut of_column = [0.0; SIDE];
        for (cosines, coefficients) in across.iter().zip(coefficients) {
            add(&mut of_column, cosines[place], coefficients);
        }
        let mut pixels = [0.0; SIDE];
        for (cosines, coefficient) in down.iter().zip(of_column) {
            add(&mut pixels, coefficient, cosines);
        }
        *column = pixels;
    }
}

/// Adds `values` times `factor`.
#[inline(always)]
fn add(sums: &mut Column, factor: f32, values: &Column) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value * factor;
    }
}

/// The `rows` that `columns` of pixels are, each with so many columns as `filter` has.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn narrow(columns: &[Column], filter: &Filter, rows: &mut [f32]) {
    let width = filter.len();
    for (place, taps) in filter.taps().enumerate() {
        let mut sums = [0.0; SIDE];
        for (column, weight) in columns[taps.first..].iter().zip(taps.weights) {
            add(&mut sums, *weight, column);
        }
        // The last block may have more rows than there are.
        let mut at = place;
        for sum in sums {
            let Some(value) = rows.get_mut(at) else {
                break;
            };
            *value = sum;
            at += width;
        }
    }
}

/// The weighted mean of `rows`.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn mean_row(rows: &[f32], taps: Taps, row: &mut [f32]) {
    row.fill(0.0);
    let rows = rows.chunks_exact(row.len()).skip(taps.first);
    for (line, weight) in rows.zip(taps.weights) {
        for (sum, value) in row.iter_mut().zip(line) {
            *sum += value * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of a block alone, `pixels` each way, row by row: by the standard's formula, and the areas that they cover.
    fn expected(coefficients: &Block, pixels: usize) -> Vec<f64> {
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
        let block: Block = std::array::from_fn(|n| ((n * 37 + 11) % 101) as f32 - 50.0);
        for side in 1..=SIDE {
            let extent = Extent {
                picture: 8,
                wanted: 0..8,
                sampling: 1,
                finest: 1,
            };
            let mut plane = Plane::new(&extent, &extent, 1, side);
            assert!(plane.needs(0, 0) && !plane.needs(1, 0) && !plane.needs(0, 1));
            plane.put(0, 0, &block);
            plane.end_row();
            // A row that is not needed changes nothing.
            plane.end_row();
            let mut row = vec![0.0; side];
            for (place, expected) in expected(&block, side).chunks(side).enumerate() {
                plane.row(place, &mut row);
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
