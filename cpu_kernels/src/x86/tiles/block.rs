//! A block of results: up to four tiles of sums.

use super::places::Places;
use super::{LEFT, RIGHT, SIDE, Tile, Tiles};
use crate::x86::gemm::PANEL;
use crate::x86::sets::{Set, Task};

/// A factor's tiles: in a segment they begin `step` values apart, in the next rows or panel `tile` behind.
#[derive(Clone, Copy)]
pub struct Factor {
    pub at: *const f32,
    /// From a row of a tile to the next.
    pub row: usize,
    pub tile: usize,
    pub segment: usize,
    pub step: usize,
}

impl Factor {
    /// Turns the tiles of a left factor whose elements along the summed axis are `row` values apart, of this shape, `down`
    /// tiles of so many steps of so many segments, and becomes what that gives.
    ///
    /// # Safety
    /// The tiles must lie there.
    #[inline(always)]
    pub unsafe fn turn<T: Tiles>(
        &mut self,
        tiles: &mut T,
        row: usize,
        shape: [usize; 2],
        [down, segments, steps]: [usize; 3],
        turned: &mut [Tile],
    ) {
        let mut to = turned[..down * segments * steps].iter_mut();
        for r in 0..down {
            for segment in 0..segments {
                let from = r * SIDE + segment * self.segment;
                for (step, to) in to.by_ref().take(steps).enumerate() {
                    // SAFETY: the caller's, and a tile has room for one.
                    unsafe {
                        let from = self.at.add(from + step * self.step);
                        tiles.turn(from, to.0.as_mut_ptr().cast(), [row, SIDE], shape);
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
pub struct Block {
    pub left: Factor,
    pub right: Factor,
    /// Segments, and steps of each.
    pub steps: [usize; 2],
    /// What lies where the rows of the first panel begin.
    pub out: *mut f32,
    pub places: Places,
    /// The first row, and the height of each tile.
    pub row: usize,
    pub height: usize,
    pub add: bool,
}

impl Block {
    /// Computes `DOWN` tiles of rows in each of `ACROSS` panels: four at most, and one panel where it is four tiles.
    ///
    /// # Safety
    /// The factors and results must lie there.
    #[inline(always)]
    pub unsafe fn compute<S: Set, T: Tiles, const DOWN: usize, const ACROSS: usize>(
        &self,
        set: S,
        tiles: &mut T,
    ) {
        // SAFETY: the caller's.
        unsafe {
            for r in 0..DOWN {
                for n in 0..ACROSS {
                    match self.add {
                        true => set.run(self.sums(tiles, n * DOWN + r, [r, n], false)),
                        false => tiles.zero(n * DOWN + r),
                    }
                }
            }
            for segment in 0..self.steps[0] {
                let mut a = self.left.at.add(segment * self.left.segment);
                let mut b = self.right.at.add(segment * self.right.segment);
                for _ in 0..self.steps[1] {
                    self.multiply::<T, DOWN, ACROSS>(tiles, a, b);
                    a = a.wrapping_add(self.left.step);
                    b = b.wrapping_add(self.right.step);
                }
            }
            for r in 0..DOWN {
                for n in 0..ACROSS {
                    set.run(self.sums(tiles, n * DOWN + r, [r, n], true));
                }
            }
        }
    }

    /// Adds the products of the factors' tiles at `a` and `b`, and of those in the next rows and panels.
    ///
    /// # Safety
    /// They must lie there.
    #[inline(always)]
    unsafe fn multiply<T: Tiles, const DOWN: usize, const ACROSS: usize>(
        &self,
        tiles: &mut T,
        a: *const f32,
        b: *const f32,
    ) {
        let Self { left, right, .. } = self;
        // SAFETY: the caller's.
        unsafe {
            for (r, register) in LEFT.into_iter().enumerate().take(DOWN) {
                tiles.load(register, a.add(r * left.tile), left.row);
            }
            for n in 0..ACROSS {
                tiles.load(RIGHT[n % RIGHT.len()], b.add(n * right.tile), right.row);
                for r in 0..DOWN {
                    if r >= LEFT.len() {
                        tiles.load(LEFT[r % LEFT.len()], a.add(r * left.tile), left.row);
                    }
                    let factors = [r % LEFT.len(), n % RIGHT.len()];
                    multiply_add(tiles, factors, n * DOWN + r);
                }
            }
        }
    }

    /// Tile `r` of panel `n`, which is in register `register`, to be stored or loaded. Whoever asks for it knows that there is
    /// room for it.
    #[inline(always)]
    fn sums<'t, T>(
        &self,
        tiles: &'t mut T,
        register: usize,
        [r, n]: [usize; 2],
        store: bool,
    ) -> Sums<'t, T> {
        Sums {
            tiles,
            register,
            out: self.out.wrapping_add(n * PANEL),
            places: self.places,
            first: self.row + r * SIDE,
            height: self.height,
            store,
        }
    }
}

/// A tile of sums and its place: rows from `first` on, in a panel whose rows begin at `out`. A task of its own, because
/// there would be many copies of it.
struct Sums<'a, T> {
    tiles: &'a mut T,
    register: usize,
    out: *mut f32,
    places: Places,
    first: usize,
    height: usize,
    store: bool,
}

impl<T: Tiles> Task for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, _set: S) {
        let Self {
            tiles,
            register,
            out,
            places,
            ..
        } = self;
        let evenly = places.of_run(self.first, self.height);
        let rows = || places.of_rows(self.first).take(self.height);
        // SAFETY: whoever made the task knows that the tile has a place there.
        unsafe {
            match (evenly, self.store) {
                (Some(at), true) => tiles.store(register, out.add(at), places.step),
                (Some(at), false) => tiles.load(register, out.add(at), places.step),
                (None, true) => {
                    let mut values = Tile::uninit();
                    tiles.store(register, values.0.as_mut_ptr().cast(), PANEL);
                    let values: *const [f32; PANEL] = values.0.as_ptr().cast();
                    for (row, at) in rows().enumerate() {
                        if let Some(at) = at {
                            out.add(at).cast::<[f32; PANEL]>().write(*values.add(row));
                        }
                    }
                }
                (None, false) => {
                    let mut values = [[0.0; PANEL]; SIDE];
                    for (at, values) in rows().zip(&mut values) {
                        if let Some(at) = at {
                            *values = out.add(at).cast::<[f32; PANEL]>().read();
                        }
                    }
                    tiles.load(register, values.as_ptr().cast(), PANEL);
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
