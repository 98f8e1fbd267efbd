//! Products of pairs of bf16 on tiles: registers that hold a matrix each, and an instruction that multiplies two of them.
//!
//! A block of results is up to four tiles of sums, two by two where rows and panels allow it: that many products do not
//! wait for each other. The factors are read where they lie, but for a left one whose rows do not lie along the summed
//! axis.

use super::gemm::{Left, PANEL, Product};
use super::sets::{Set, Task};

/// The most rows of a tile, and the most elements in each of them: sums, or pairs of bf16.
pub const SIDE: usize = 16;

/// Registers 0 to 3.
const SUMS: usize = 4;
/// The factors, as deep as a tile can be.
const LEFT: usize = 4;
const RIGHT: usize = 5;
/// The factors behind the last of those in a segment.
const LEFT_REST: usize = 6;
const RIGHT_REST: usize = 7;

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
    /// For `height` rows of results, a tile's at most, of segments with `length` elements.
    fn new(height: usize, length: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            ..Self::default()
        };
        for sums in 0..SUMS {
            shapes.set(sums, height, PANEL);
        }
        let rest = length % SIDE;
        shapes.set(LEFT, height, SIDE);
        shapes.set(RIGHT, SIDE, PANEL);
        shapes.set(LEFT_REST, height, rest);
        shapes.set(RIGHT_REST, rest, PANEL);
        shapes
    }

    /// A register without rows must have no columns either, and the reverse.
    fn set(&mut self, tile: usize, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            self.rows[tile] = rows as u8;
            self.row_bytes[tile] = (columns * size_of::<f32>()) as u16;
        }
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
}

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
        let turned;
        let mut product = *self.product;
        if product.left.step != 1 {
            turned = rows_of_left(&product);
            product.left = Left {
                data: &turned,
                row: product.depth.segments * product.depth.length,
                step: 1,
                segment: product.depth.length,
            };
        }
        let whole = product.rows / SIDE * SIDE;
        for rows in [0..whole, whole..product.rows] {
            if rows.is_empty() {
                continue;
            }
            let height = rows.len().min(SIDE);
            self.tiles
                .configure(&Shapes::new(height, product.depth.length));
            let most = if rows.len() > SIDE { SUMS / 2 } else { SUMS };
            for panel in (0..product.panels).step_by(most) {
                let across = most.min(product.panels - panel);
                let most = SUMS / across * SIDE;
                for row in rows.clone().step_by(most) {
                    let block = Block {
                        row,
                        down: most.min(rows.end - row).div_ceil(SIDE),
                        panel,
                        across,
                    };
                    // SAFETY: `has_terms` has compared the product's sizes with its factors' lengths, and the block lies
                    // in it.
                    unsafe { block.sum(&mut self.tiles, &product) };
                    self.write(block, height);
                }
            }
        }
        self.tiles.release();
    }
}

impl<T: Tiles> OnTiles<'_, T> {
    /// Writes the sums of `block` to the results, or adds them.
    #[inline(always)]
    fn write(&mut self, block: Block, height: usize) {
        let mut sums = [[0.0; PANEL]; SIDE];
        for n in 0..block.across {
            for r in 0..block.down {
                let first = (block.row + r * SIDE) * self.out_row + (block.panel + n) * PANEL;
                let out = &mut self.out[first..];
                assert!((height - 1) * self.out_row + PANEL <= out.len());
                // SAFETY: a tile has `height` rows of 16 sums: there is room for them at both.
                unsafe {
                    if !self.add {
                        self.tiles
                            .store(block.sums(r, n), out.as_mut_ptr(), self.out_row);
                        continue;
                    }
                    self.tiles
                        .store(block.sums(r, n), sums.as_mut_ptr().cast(), PANEL);
                }
                for (out, sums) in out.chunks_mut(self.out_row).zip(&sums[..height]) {
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out += sum;
                    }
                }
            }
        }
    }
}

/// `down` tiles of results from `row`, in each of `across` panels from `panel`.
#[derive(Clone, Copy)]
struct Block {
    row: usize,
    down: usize,
    panel: usize,
    across: usize,
}

impl Block {
    /// The register of sums of tile `r` in panel `n`.
    #[inline(always)]
    fn sums(&self, r: usize, n: usize) -> usize {
        n * self.down + r
    }

    /// # Safety
    /// The factors of all its rows and panels must lie where `product` says.
    #[inline(always)]
    unsafe fn sum<T: Tiles>(&self, tiles: &mut T, product: &Product) {
        let Product {
            left, right, depth, ..
        } = product;
        let whole = depth.length / SIDE * SIDE;
        for sums in 0..self.down * self.across {
            tiles.zero(sums);
        }
        // SAFETY: the caller's.
        unsafe {
            let a = left.data.as_ptr().add(self.row * left.row);
            let b = right.data.as_ptr().add(self.panel * right.panel);
            for segment in 0..depth.segments {
                let a = a.add(segment * left.segment);
                let b = b.add(segment * right.segment);
                for k in (0..whole).step_by(SIDE) {
                    let b = b.add(k * right.step);
                    self.add::<T, LEFT, RIGHT>(tiles, product, a.add(k), b);
                }
                if whole < depth.length {
                    let b = b.add(whole * right.step);
                    self.add::<T, LEFT_REST, RIGHT_REST>(tiles, product, a.add(whole), b);
                }
            }
        }
    }

    /// Adds the products of factors as deep as the registers `L` and `R`, which begin at `a` and `b`.
    ///
    /// # Safety
    /// As [`Self::sum`].
    #[inline(always)]
    unsafe fn add<T: Tiles, const L: usize, const R: usize>(
        &self,
        tiles: &mut T,
        product: &Product,
        a: *const f32,
        b: *const f32,
    ) {
        let Product { left, right, .. } = product;
        for n in 0..self.across {
            // SAFETY: the caller's.
            unsafe { tiles.load(R, b.add(n * right.panel), right.step) };
            for r in 0..self.down {
                // SAFETY: the caller's.
                unsafe { tiles.load(L, a.add(r * SIDE * left.row), left.row) };
                tiles.multiply_add::<L, R>(self.sums(r, n));
            }
        }
    }
}

/// The rows of the left factor, each along the whole summed axis.
#[inline(always)]
fn rows_of_left(product: &Product) -> Vec<f32> {
    let Product { left, depth, .. } = product;
    let terms = depth.segments * depth.length;
    let mut turned = vec![0.0; product.rows * terms];
    // As many rows at a time as values in a line of the cache.
    for (tile, rows) in turned.chunks_mut(SIDE * terms).enumerate() {
        for term in 0..terms {
            let (segment, k) = (term / depth.length, term % depth.length);
            let values = &left.data[segment * left.segment + k * left.step + tile * SIDE..];
            for (row, value) in rows.chunks_exact_mut(terms).zip(values) {
                row[term] = *value;
            }
        }
    }
    turned
}

/// Does `rounds` times four products of whole tiles, and returns their floating-point operations.
#[inline(always)]
pub fn multiply_adds<T: Tiles>(mut tiles: T, rounds: usize) -> usize {
    tiles.configure(&Shapes::new(SIDE, SIDE));
    for _ in 0..rounds {
        for sums in 0..SUMS {
            tiles.multiply_add::<LEFT, RIGHT>(sums);
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
