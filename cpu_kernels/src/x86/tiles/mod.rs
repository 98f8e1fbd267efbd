//! Products of pairs of bf16 on tiles: registers that hold a matrix each, and an instruction that multiplies two of them.
//!
//! A block of results is up to four tiles of sums, two by two where rows and panels allow it: that many products do not
//! wait for each other. The factors are read where they lie, but for a left one whose rows do not lie along the summed
//! axis.

mod block;
mod kernel_gradient;
mod places;

use std::mem::MaybeUninit;
use std::ops::Range;

use block::{Block, Factor};
pub use kernel_gradient::KernelGradient;
pub use places::{Lines, Places};

use super::format::Format;
use super::gemm::{PANEL, Product};
use super::prefetch::Ahead;
use super::sets::{Set, Task};

/// The most rows of a tile, and the most elements in each of them: sums, or pairs of bf16.
pub const SIDE: usize = 16;

/// Registers 0 to 3.
const SUMS: usize = 4;
/// Two for either factor.
const LEFT: [usize; 2] = [4, 5];
const RIGHT: [usize; 2] = [6, 7];

/// Tiles of a row of the left factor that are turned at a time.
const TURNED: usize = 8;

/// The rows of each register, and the bytes in each of them, as the processor reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Shapes {
    /// The kind of shapes; 0 when there are none.
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For `height` rows of results and factors `depth` elements deep, a tile's at most.
    fn new(height: usize, depth: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            ..Self::default()
        };
        for sums in 0..SUMS {
            shapes.set(sums, height, PANEL);
        }
        for left in LEFT {
            shapes.set(left, height, depth);
        }
        for right in RIGHT {
            shapes.set(right, depth, PANEL);
        }
        shapes
    }

    fn set(&mut self, tile: usize, rows: usize, columns: usize) {
        self.rows[tile] = rows as u8;
        self.row_bytes[tile] = (columns * size_of::<f32>()) as u16;
    }
}

/// The eight registers of a thread, by their numbers. The processor ends a process that uses one that has no shape, or
/// multiplies shapes that do not fit.
pub trait Tiles {
    /// Gives the registers their shapes, and zeros.
    fn configure(&mut self, shapes: &Shapes);

    /// Gives the registers back: the system need no longer save them when the thread waits.
    fn release(&mut self);

    fn zero(&mut self, tile: usize);

    /// Reads a matrix with rows that begin `row` values apart.
    ///
    /// # Safety
    /// All of it must lie at `from`.
    unsafe fn load(&mut self, tile: usize, from: *const f32, row: usize);

    /// Writes it, as [`Self::load`] reads it.
    ///
    /// # Safety
    /// There must be room for all of it at `to`.
    unsafe fn store(&mut self, tile: usize, to: *mut f32, row: usize);

    /// Adds the product of the matrices `LEFT` and `RIGHT`, of pairs of bf16, to `sums`, which is one of registers 0 to 3.
    /// The elements of a row on the left are multiplied by those of a column on the right.
    fn multiply_add<const LEFT: usize, const RIGHT: usize>(&mut self, sums: usize);

    /// Writes to `to`, row by row, the columns of a matrix of so many rows and columns, a tile's at most. The rows of both
    /// begin so many values apart. All 16 rows of 16 values are written: others than these are of no use.
    ///
    /// # Safety
    /// The matrix must lie at `from`, and there must be room for a whole tile at `to`.
    unsafe fn turn(&mut self, from: *const f32, to: *mut f32, rows: [usize; 2], shape: [usize; 2]);
}

/// Room for the values of a tile, each row in a line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(MaybeUninit<[[f32; SIDE]; SIDE]>);

impl Tile {
    pub const fn uninit() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// [`Product::compute`] of pairs of bf16.
pub struct OnTiles<'a, T> {
    pub product: &'a Product<'a>,
    pub tiles: T,
    pub out: &'a mut [f32],
    pub places: Places,
    pub add: bool,
    /// What is asked for meanwhile.
    pub ahead: Option<&'a mut Ahead>,
}

impl<T: Tiles> Task for OnTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(mut self, set: S) {
        let rows = self.product.rows;
        let Some(last_row) = self.places.of(rows.saturating_sub(1)) else {
            panic!("the last row of a product is no result");
        };
        if !self.product.has_terms(self.out.len(), last_row) {
            return;
        }
        let whole = rows / SIDE * SIDE;
        for rows in [0..whole, whole..rows] {
            if rows.is_empty() {
                continue;
            }
            let height = rows.len().min(SIDE);
            let mut add = self.add;
            for stretch in stretches(self.product) {
                self.tiles.configure(&Shapes::new(height, stretch.step));
                for segments in stretch.at_a_time(self.product) {
                    // SAFETY: `has_terms` has compared the product's sizes with the lengths of its factors and results.
                    unsafe { self.add_stretch(set, (&rows, height), &stretch, segments, add) };
                    add = true;
                }
            }
        }
        self.tiles.release();
    }
}

/// A part of each segment of the summed axis, which is multiplied in tiles `step` elements deep.
struct Stretch {
    from: usize,
    steps: usize,
    step: usize,
}

/// What the segments of `product` are divided into, so that all tiles of a part have one depth: at least half a tile's where
/// the length allows it.
fn stretches(product: &Product) -> impl Iterator<Item = Stretch> + use<> {
    let length = product.depth.length;
    let most = match product.left.step {
        1 => length,
        _ => TURNED,
    };
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = length - from;
        let evenly = (SIDE / 2..=SIDE)
            .rev()
            .find(|step| rest.is_multiple_of(*step));
        let step = evenly.unwrap_or(rest.min(SIDE));
        let steps = (rest / step.max(1)).min(most);
        let stretch = Stretch { from, steps, step };
        from += steps * step;
        (rest > 0).then_some(stretch)
    })
}

impl Stretch {
    /// The segments of `product` that are multiplied one after the other: all, or what there is room for.
    fn at_a_time(&self, product: &Product) -> impl Iterator<Item = Range<usize>> + use<> {
        let all = product.depth.segments;
        let most = match product.left.step {
            1 => all,
            _ => TURNED / self.steps,
        };
        (0..all)
            .step_by(most)
            .map(move |first| first..all.min(first + most))
    }
}

impl<T: Tiles> OnTiles<'_, T> {
    /// Writes to the results in `rows` what a stretch of some `segments` gives, or adds it to them. The rows fill tiles of
    /// this `height`.
    ///
    /// # Safety
    /// The product's factors and results must lie where it says.
    #[inline(always)]
    unsafe fn add_stretch<S: Set>(
        &mut self,
        set: S,
        (rows, height): (&Range<usize>, usize),
        stretch: &Stretch,
        segments: Range<usize>,
        add: bool,
    ) {
        let Product {
            left,
            right,
            panels,
            ..
        } = self.product;
        let mut turned = [Tile::uninit(); 2 * TURNED];
        let mut row = rows.start;
        while row < rows.end {
            let down = match (rows.end - row) / SIDE {
                4.. if *panels == 1 && left.step == 1 => 4,
                2.. => 2,
                _ => 1,
            };
            let at = row * left.row + segments.start * left.segment + stretch.from * left.step;
            let mut of_rows = Factor {
                at: left.data[at..].as_ptr(),
                row: left.row,
                tile: SIDE * left.row,
                segment: left.segment,
                step: stretch.step * left.step,
            };
            if left.step != 1 {
                let shape = [stretch.step, height];
                // SAFETY: the caller's, and `at_a_time` has left room for as many tiles.
                unsafe {
                    let steps = [down, segments.len(), stretch.steps];
                    of_rows.turn(&mut self.tiles, left.step, shape, steps, &mut turned);
                }
            }
            let mut panel = 0;
            while panel < *panels {
                let across = match panels - panel {
                    4.. if down == 1 => 4,
                    2.. if down < 4 => 2,
                    _ => 1,
                };
                let at = panel * right.panel
                    + segments.start * right.segment
                    + stretch.from * right.step;
                let block = Block {
                    left: of_rows,
                    right: Factor {
                        at: right.data[at..].as_ptr(),
                        row: right.step,
                        tile: right.panel,
                        segment: right.segment,
                        step: stretch.step * right.step,
                    },
                    steps: [segments.len(), stretch.steps],
                    out: self.out.as_mut_ptr().wrapping_add(panel * PANEL),
                    places: self.places,
                    row,
                    height,
                    add,
                };
                let tiles = &mut self.tiles;
                if let Some(ahead) = &mut self.ahead {
                    let terms = segments.len() * stretch.steps * stretch.step;
                    ahead.pass(down * height * across * terms);
                }
                // SAFETY: the caller's.
                unsafe {
                    match [down, across] {
                        [4, _] => block.compute::<S, T, 4, 1>(set, tiles),
                        [2, 2] => block.compute::<S, T, 2, 2>(set, tiles),
                        [2, _] => block.compute::<S, T, 2, 1>(set, tiles),
                        [_, 4] => block.compute::<S, T, 1, 4>(set, tiles),
                        [_, 2] => block.compute::<S, T, 1, 2>(set, tiles),
                        _ => block.compute::<S, T, 1, 1>(set, tiles),
                    }
                }
                panel += across;
            }
            row += down * SIDE;
        }
    }
}

/// Turns `count` rows of 16 values, which begin `row` values apart, into 16 rows at `to`, which begin `to_row` apart. Whole
/// tiles are written to each of them: what lies behind `count` values is of no use.
///
/// # Panics
/// When `from` has fewer values, or `to` has no room for the tiles.
#[inline(always)]
pub fn turn<T: Tiles>(
    tiles: &mut T,
    from: &[f32],
    to: &mut [f32],
    [row, to_row]: [usize; 2],
    count: usize,
) {
    for first in (0..count).step_by(SIDE) {
        let rows = SIDE.min(count - first);
        let (from, to) = (&from[first * row..], &mut to[first..]);
        assert!((rows - 1) * row + PANEL <= from.len());
        assert!((PANEL - 1) * to_row + SIDE <= to.len());
        // SAFETY: both have the length.
        unsafe {
            let shape = [rows, PANEL];
            tiles.turn(from.as_ptr(), to.as_mut_ptr(), [row, to_row], shape);
        }
    }
}

/// The tiles of `set`, where it multiplies the format `F` on them.
#[inline(always)]
pub fn tiles_for<S: Set, F: Format>(set: S) -> Option<S::Tiles> {
    if F::VALUES > 1 { set.tiles() } else { None }
}

/// Does `rounds` times four products of whole tiles, and returns their floating-point operations.
#[inline(always)]
pub fn multiply_adds<T: Tiles>(mut tiles: T, rounds: usize) -> usize {
    tiles.configure(&Shapes::new(SIDE, SIDE));
    for _ in 0..rounds {
        for sums in 0..SUMS {
            tiles.multiply_add::<{ LEFT[0] }, { RIGHT[0] }>(sums);
        }
    }
    tiles.release();
    // A product and a sum for both values of each pair.
    2 * 2 * SIDE * SIDE * PANEL * SUMS * rounds
}

#[cfg(test)]
mod emulation;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use emulation::Emulation;
