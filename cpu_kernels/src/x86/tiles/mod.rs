//! Products of pairs of bf16 on tiles: registers that hold a matrix each, and an instruction that multiplies two of them.
//!
//! A block of results is up to four tiles of sums, two by two where rows and panels allow it: that many products do not
//! wait for each other. The factors are read where they lie, but for a left one whose rows do not lie along the summed
//! axis.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::gemm::{Left, PANEL, Product};
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

    /// Writes to `to`, row by row, the columns of a matrix of so many rows and columns whose rows begin `row`
    /// values apart. What else there is room for is filled with values of no use.
    ///
    /// # Safety
    /// All of it must lie at `from`.
    unsafe fn turn(&mut self, from: *const f32, row: usize, shape: [usize; 2], to: &mut Tile);
}

/// The values of a tile.
pub type Tile = MaybeUninit<[[f32; SIDE]; SIDE]>;

/// [`Product::compute`] of pairs of bf16.
pub struct OnTiles<'a, T> {
    pub product: &'a Product<'a>,
    pub tiles: T,
    pub out: &'a mut [f32],
    pub out_row: usize,
    pub add: bool,
}

impl<T: Tiles> Task for OnTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(mut self, _set: S) {
        if !self.product.has_terms(self.out.len(), self.out_row) {
            return;
        }
        let Product { rows, depth, .. } = *self.product;
        let whole = rows / SIDE * SIDE;
        for rows in [0..whole, whole..rows] {
            if rows.is_empty() {
                continue;
            }
            let height = rows.len().min(SIDE);
            let mut add = self.add;
            for stretch in stretches(depth.length) {
                self.tiles.configure(&Shapes::new(height, stretch.step));
                for segments in stretch.at_a_time(self.product) {
                    // SAFETY: `has_terms` has compared the product's sizes with the lengths of its factors and results.
                    unsafe { self.add_stretch(&rows, height, &stretch, segments, add) };
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

/// What segments of `length` elements are divided into, so that all tiles of a part have one depth: at least half a tile's
/// where the length allows it.
fn stretches(length: usize) -> impl Iterator<Item = Stretch> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = length - from;
        let evenly = (SIDE / 2..=SIDE)
            .rev()
            .find(|step| rest.is_multiple_of(*step));
        let step = evenly.unwrap_or(rest.min(SIDE));
        let steps = (rest / step.max(1)).min(TURNED);
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
    unsafe fn add_stretch(
        &mut self,
        rows: &Range<usize>,
        height: usize,
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
        let mut turned = [const { Tile::uninit() }; 2 * TURNED];
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
                let steps = [segments.len(), stretch.steps];
                // SAFETY: the caller's, and `at_a_time` has left room for as many tiles.
                unsafe {
                    of_rows.turn(
                        &mut self.tiles,
                        left.step,
                        shape,
                        [down, steps[0], steps[1]],
                        &mut turned,
                    )
                };
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
                    out: self.out[row * self.out_row + panel * PANEL..].as_mut_ptr(),
                    out_row: self.out_row,
                    add,
                };
                let tiles = &mut self.tiles;
                // SAFETY: the caller's.
                unsafe {
                    match [down, across] {
                        [4, _] => block.compute::<T, 4, 1>(tiles),
                        [2, 2] => block.compute::<T, 2, 2>(tiles),
                        [2, _] => block.compute::<T, 2, 1>(tiles),
                        [_, 4] => block.compute::<T, 1, 4>(tiles),
                        [_, 2] => block.compute::<T, 1, 2>(tiles),
                        _ => block.compute::<T, 1, 1>(tiles),
                    }
                }
                panel += across;
            }
            row += down * SIDE;
        }
    }
}

/// A factor's tiles: in a segment they begin `step` values apart, in the next rows or panel `tile` behind.
#[derive(Clone, Copy)]
struct Factor {
    at: *const f32,
    /// From a row of a tile to the next.
    row: usize,
    tile: usize,
    segment: usize,
    step: usize,
}

impl Factor {
    /// Turns the tiles of a left factor whose elements along the summed axis are `row` values apart, of this shape, `down`
    /// tiles of so many steps of so many segments, and becomes what that gives.
    ///
    /// # Safety
    /// The tiles must lie there.
    #[inline(always)]
    unsafe fn turn<T: Tiles>(
        &mut self,
        tiles: &mut T,
        row: usize,
        shape: [usize; 2],
        [down, segments, steps]: [usize; 3],
        turned: &mut [Tile],
    ) {
        let mut to = turned.iter_mut();
        for r in 0..down {
            for segment in 0..segments {
                for step in 0..steps {
                    let Some(to) = to.next() else {
                        unreachable!("{down} tiles of {segments} times {steps} steps")
                    };
                    // SAFETY: the caller's.
                    unsafe {
                        let from = self
                            .at
                            .add(r * SIDE + segment * self.segment + step * self.step);
                        tiles.turn(from, row, shape, to);
                    }
                }
            }
        }
        let values = SIDE * SIDE;
        *self = Self {
            at: turned.as_ptr().cast(),
            row: SIDE,
            tile: segments * steps * values,
            segment: steps * values,
            step: values,
        };
    }
}

/// Some tiles of results.
struct Block {
    left: Factor,
    right: Factor,
    /// Segments, and steps of each.
    steps: [usize; 2],
    out: *mut f32,
    out_row: usize,
    add: bool,
}

impl Block {
    /// Computes `DOWN` tiles of rows in each of `ACROSS` panels: four at most, and one panel where it is four tiles.
    ///
    /// # Safety
    /// The factors and results must lie there.
    #[inline(always)]
    unsafe fn compute<T: Tiles, const DOWN: usize, const ACROSS: usize>(&self, tiles: &mut T) {
        let Self { left, right, .. } = self;
        let out = |r: usize, n: usize| self.out.wrapping_add(r * SIDE * self.out_row + n * PANEL);
        // SAFETY: the caller's.
        unsafe {
            for r in 0..DOWN {
                for n in 0..ACROSS {
                    match self.add {
                        true => tiles.load(n * DOWN + r, out(r, n), self.out_row),
                        false => tiles.zero(n * DOWN + r),
                    }
                }
            }
            for segment in 0..self.steps[0] {
                let mut a = left.at.add(segment * left.segment);
                let mut b = right.at.add(segment * right.segment);
                for _ in 0..self.steps[1] {
                    for r in 0..DOWN.min(LEFT.len()) {
                        tiles.load(LEFT[r], a.add(r * left.tile), left.row);
                    }
                    for n in 0..ACROSS {
                        let right_tile = n % RIGHT.len();
                        tiles.load(RIGHT[right_tile], b.add(n * right.tile), right.row);
                        for r in 0..DOWN {
                            let left_tile = r % LEFT.len();
                            if r >= LEFT.len() {
                                tiles.load(LEFT[left_tile], a.add(r * left.tile), left.row);
                            }
                            multiply_add(tiles, [left_tile, right_tile], n * DOWN + r);
                        }
                    }
                    a = a.wrapping_add(left.step);
                    b = b.wrapping_add(right.step);
                }
            }
            for r in 0..DOWN {
                for n in 0..ACROSS {
                    tiles.store(n * DOWN + r, out(r, n), self.out_row);
                }
            }
        }
    }
}

/// Adds the product of one of either factor's registers to `sums`.
#[inline(always)]
fn multiply_add<T: Tiles>(tiles: &mut T, factors: [usize; 2], sums: usize) {
    const L: [usize; 2] = LEFT;
    const R: [usize; 2] = RIGHT;
    match factors {
        [0, 0] => tiles.multiply_add::<{ L[0] }, { R[0] }>(sums),
        [0, _] => tiles.multiply_add::<{ L[0] }, { R[1] }>(sums),
        [_, 0] => tiles.multiply_add::<{ L[1] }, { R[0] }>(sums),
        [_, _] => tiles.multiply_add::<{ L[1] }, { R[1] }>(sums),
    }
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
