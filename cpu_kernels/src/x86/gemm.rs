//! Small matrix products in registers, of the elements of a [`Format`].

use std::marker::PhantomData;

use super::format::Format;
use super::prefetch::{Ahead, Piece, Shares};
use super::sets::{Set, Task};
use super::tiles::{OnTiles, Places, tiles_for};

/// Steps along the summed axis between which memory is asked for.
const STRETCH: usize = 8;

/// Columns of a panel.
pub const PANEL: usize = 16;

/// The left factor: element (r, k) of segment s is `data[s * segment + r * row + k * step]`.
///
/// One of `row` and `step` is 1. A segment is a run of the summed axis that lies evenly in memory; a
/// 3x3 convolution has one for each row of its kernel.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub step: usize,
    pub segment: usize,
}

/// The right factor, panels of 16 columns: element (k, c) of segment s of panel p is
/// `data[p * panel + s * segment + k * step + c]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub data: &'a [f32],
    pub step: usize,
    pub segment: usize,
    pub panel: usize,
}

/// The summed axis: `segments` runs of `length`.
#[derive(Clone, Copy)]
pub struct Depth {
    pub segments: usize,
    pub length: usize,
}

impl Depth {
    /// Elements of all segments.
    pub fn terms(self) -> usize {
        self.segments * self.length
    }
}

/// A matrix product of `rows` rows and `panels` times 16 columns.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub left: Left<'a>,
    pub right: Right<'a>,
    pub depth: Depth,
    pub rows: usize,
    pub panels: usize,
}

impl Product<'_> {
    /// `out[r * out_row + c] = Σ left(r, k) · right(k, c)`, or that added to `out`. Each sum is taken in the order of k,
    /// by [`Format::multiply_add`], whatever the set; but pairs of bf16 on tiles as their instruction takes it.
    ///
    /// # Panics
    /// When a factor or `out` is too short.
    #[inline(always)]
    pub fn compute<S: Set, F: Format>(&self, set: S, out: &mut [f32], out_row: usize, add: bool) {
        self.compute_beside::<S, F>(set, out, out_row, add, None);
    }

    /// [`Self::compute`], which asks meanwhile for what lies `ahead`.
    #[inline(always)]
    pub fn compute_beside<S: Set, F: Format>(
        &self,
        set: S,
        out: &mut [f32],
        out_row: usize,
        add: bool,
        mut ahead: Option<&mut Ahead>,
    ) {
        if let Some(tiles) = tiles_for::<S, F>(set) {
            return set.run(OnTiles {
                product: self,
                tiles,
                out,
                places: Places::rows(out_row),
                add,
                ahead,
            });
        }
        if !self.has_terms(out.len(), self.rows.saturating_sub(1) * out_row) {
            return;
        }
        let Self { left, right, .. } = self;
        for panel in (0..self.panels).step_by(S::PANELS) {
            let panels = S::PANELS.min(self.panels - panel);
            let mut row = 0;
            while row < self.rows {
                let height = S::height(self.rows - row, panels, F::VALUES > 1);
                let ahead = ahead.as_mut();
                let piece = ahead.map(|ahead| ahead.during(self.work(height, panels)));
                // SAFETY: `has_terms` has bounded every address: the blocks cover rows 0 to `rows` and all panels once.
                unsafe {
                    let at = At {
                        a: left.data.as_ptr().add(row * left.row),
                        b: right.data.as_ptr().add(panel * right.panel),
                        c: out.as_mut_ptr().add(row * out_row + panel * PANEL),
                        out_row,
                        add,
                        piece: piece.unwrap_or(Piece::NONE),
                    };
                    self.block::<S, F>(set, height, panels, at);
                }
                row += height;
            }
        }
    }

    /// Multiplications of a left value with a right panel for `rows` and `panels`.
    #[inline(always)]
    fn work(&self, rows: usize, panels: usize) -> usize {
        rows * panels * self.depth.terms()
    }

    /// Whether there is anything to compute.
    ///
    /// # Panics
    /// When a factor is too short, or `out` values for results of which the last row begins at `last_row`.
    #[inline(always)]
    pub fn has_terms(&self, out: usize, last_row: usize) -> bool {
        let Self {
            left, right, depth, ..
        } = self;
        if [self.rows, self.panels, depth.segments, depth.length].contains(&0) {
            return false;
        }
        assert!(left.step == 1 || left.row == 1);
        let last = |segment: usize, step: usize| {
            (depth.segments - 1) * segment + (depth.length - 1) * step
        };
        let last_left = last(left.segment, left.step) + (self.rows - 1) * left.row;
        assert!(last_left < left.data.len());
        let last_right = last(right.segment, right.step) + (self.panels - 1) * right.panel;
        assert!(last_right + PANEL <= right.data.len());
        assert!(last_row + self.panels * PANEL <= out);
        true
    }

    /// One block of the product.
    ///
    /// # Safety
    /// `height` rows and `panels` panels must lie at each address.
    #[inline(always)]
    unsafe fn block<S: Set, F: Format>(&self, set: S, height: usize, panels: usize, at: At) {
        match (height, panels * PANEL / S::WIDTH) {
            (16, 1) => set.run(Block::<16, 1, F>::new(self, at)),
            (8, 1) => set.run(Block::<8, 1, F>::new(self, at)),
            (4, 1) => set.run(Block::<4, 1, F>::new(self, at)),
            (1, 1) => set.run(Block::<1, 1, F>::new(self, at)),
            (8, 2) => set.run(Block::<8, 2, F>::new(self, at)),
            (6, 2) => set.run(Block::<6, 2, F>::new(self, at)),
            (4, 2) => set.run(Block::<4, 2, F>::new(self, at)),
            (1, 2) => set.run(Block::<1, 2, F>::new(self, at)),
            (height, width) => unreachable!("no block of {height} rows, {width} registers wide"),
        }
    }
}

/// Where a block's factors and results begin.
#[derive(Clone, Copy)]
struct At {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    out_row: usize,
    add: bool,
    /// What to ask for meanwhile.
    piece: Piece,
}

/// A block of `R` rows, `N` registers wide, of [`Product::compute`]. Whoever makes one knows that all its elements lie
/// at its addresses.
struct Block<'a, const R: usize, const N: usize, F> {
    product: &'a Product<'a>,
    at: At,
    format: PhantomData<F>,
}

impl<'a, const R: usize, const N: usize, F> Block<'a, R, N, F> {
    #[inline(always)]
    fn new(product: &'a Product<'a>, at: At) -> Self {
        Self {
            product,
            at,
            format: PhantomData,
        }
    }
}

impl<const R: usize, const N: usize, F: Format> Task for Block<'_, R, N, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let Product {
            left, right, depth, ..
        } = self.product;
        let At { a, b, c, piece, .. } = self.at;
        let stretches = depth.segments * depth.length.div_ceil(STRETCH);
        let mut piece = piece.in_shares(stretches);
        // SAFETY: all elements lie there.
        unsafe {
            let mut sums = [[set.zero(); N]; R];
            for index in 0..depth.segments {
                let (a, b) = (a.add(index * left.segment), b.add(index * right.segment));
                // A constant step of 1 lets the compiler keep one index for all rows.
                if left.step == 1 {
                    add_segment::<S, F, R, N>(
                        set,
                        &mut sums,
                        [a, b],
                        [left.row, 1],
                        self.product,
                        &mut piece,
                    );
                } else {
                    add_segment::<S, F, R, N>(
                        set,
                        &mut sums,
                        [a, b],
                        [1, left.step],
                        self.product,
                        &mut piece,
                    );
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    let c = c.add(r * self.at.out_row + column::<S>(n, PANEL));
                    let sum = match self.at.add {
                        true => set.add(*sum, set.load(c)),
                        false => *sum,
                    };
                    set.store(c, sum);
                }
            }
        }
    }
}

/// Adds one segment's products to `sums`. The segment's factors begin at `a` and `b`; a left one is `row` behind that of
/// the row before, and `step` behind the one before in its row.
///
/// # Safety
/// As many elements as `product` says must lie there.
#[inline(always)]
unsafe fn add_segment<S: Set, F: Format, const R: usize, const N: usize>(
    set: S,
    sums: &mut [[S::Register; N]; R],
    [a, b]: [*const f32; 2],
    [row, step]: [usize; 2],
    product: &Product,
    piece: &mut Shares,
) {
    let Product { right, depth, .. } = product;
    let mut from = 0;
    while from < depth.length {
        piece.ask();
        let to = depth.length.min(from + STRETCH);
        // SAFETY: the caller's.
        unsafe {
            for k in from..to {
                let b = b.add(k * right.step);
                let mut factors = [set.zero(); N];
                for (n, factor) in factors.iter_mut().enumerate() {
                    *factor = set.load(b.add(column::<S>(n, right.panel)));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = set.broadcast(a.add(r * row + k * step));
                    for (sum, other) in sums.iter_mut().zip(factors) {
                        *sum = F::multiply_add(set, factor, other, *sum);
                    }
                }
            }
        }
        from = to;
    }
}

/// Where the columns of a block's register `n` begin, when a panel's columns begin every `panel` values.
#[inline(always)]
fn column<S: Set>(n: usize, panel: usize) -> usize {
    let registers = PANEL / S::WIDTH;
    n / registers * panel + n % registers * S::WIDTH
}
