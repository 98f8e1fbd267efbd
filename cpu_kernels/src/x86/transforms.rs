//! The transforms of Winograd's F(2x2, 3x3), of 16 neighbouring channels at a time.
//!
//! With three weights k, four neighbouring pixels d give two results y of a convolution, from four products instead of six:
//!
//! ```text
//!                            1  0 -1  0         1  0  0
//! y = Aᵀ (G k ⊙ Bᵀ d)   Bᵀ = 0  1  1  0     G = ½  ½  ½     Aᵀ = 1  1  1  0
//!                            0 -1  1  0         ½ -½  ½          0  1 -1  1
//!                            0 -1  0  1         0  0  1
//! ```
//!
//! On images, each goes along the columns and then along the rows. docs/numerics.md has the rest, and what it rounds.

use super::format::{F32, Format, Lanes, get, put, registers};
use super::gemm::PANEL;
use super::sets::Set;

/// A transform of `N` values along a side of a square into `M`.
pub trait Transform<const N: usize, const M: usize> {
    fn along<S: Set>(set: S, x: [S::Register; N]) -> [S::Register; M];

    /// The columns of `x`, transformed, as rows.
    #[inline(always)]
    fn columns<S: Set, const K: usize>(set: S, x: &[[S::Register; K]; N]) -> [[S::Register; M]; K] {
        let mut rows = [[set.zero(); M]; K];
        for (k, row) in rows.iter_mut().enumerate() {
            let mut column = [set.zero(); N];
            for (value, x) in column.iter_mut().zip(x) {
                *value = x[k];
            }
            *row = Self::along(set, column);
        }
        rows
    }

    /// Register `n` of the square that begins with `from`, transformed. A square's rows are `steps[0]` lanes apart, its
    /// columns `steps[1]`.
    #[inline(always)]
    fn of<S: Set, F: Format>(
        set: S,
        from: &[F::Lanes],
        steps: [usize; 2],
        n: usize,
    ) -> [[S::Register; M]; M] {
        assert_square(from.len(), steps, N, N);
        let mut x = [[set.zero(); N]; N];
        for (a, x) in x.iter_mut().enumerate() {
            for (b, x) in x.iter_mut().enumerate() {
                // SAFETY: the whole square lies there.
                let from = unsafe { from.get_unchecked(a * steps[0] + b * steps[1]) };
                *x = F::get(set, from, n);
            }
        }
        Self::columns(set, &Self::columns(set, &x))
    }

    /// All registers of the square that begins with `from`, to that which begins with `to`: `rows` and `columns` of it,
    /// rounded to the format `G`.
    #[inline(always)]
    fn square<S: Set, F: Format, G: Format>(
        set: S,
        from: &[F::Lanes],
        steps: [usize; 2],
        to: &mut [G::Lanes],
        to_steps: [usize; 2],
        [rows, columns]: [usize; 2],
    ) {
        assert_square(to.len(), to_steps, rows.min(M), columns.min(M));
        for n in 0..registers::<S>() {
            let results = Self::of::<S, F>(set, from, steps, n);
            for (i, results) in results.iter().enumerate().take(rows) {
                for (j, result) in results.iter().enumerate().take(columns) {
                    // SAFETY: the whole square lies there.
                    let to = unsafe { to.get_unchecked_mut(i * to_steps[0] + j * to_steps[1]) };
                    G::put(set, to, n, *result);
                }
            }
        }
    }

    /// All registers of the square that begins with `first`, to that which begins with `to`, as elements of the format
    /// `G`. Where they are pairs, it is put together with that which begins with `second`, or with zeros.
    #[inline(always)]
    fn elements<S: Set, F: Format, G: Format>(
        set: S,
        first: &[F::Lanes],
        second: Option<&[F::Lanes]>,
        steps: [usize; 2],
        to: &mut [Lanes],
        to_steps: [usize; 2],
    ) {
        assert_square(to.len(), to_steps, M, M);
        for n in 0..registers::<S>() {
            let results = Self::of::<S, F>(set, first, steps, n);
            let others = match second {
                Some(second) if G::VALUES > 1 => Self::of::<S, F>(set, second, steps, n),
                _ => [[set.zero(); M]; M],
            };
            for (i, (results, others)) in results.iter().zip(&others).enumerate() {
                for (j, (result, other)) in results.iter().zip(others).enumerate() {
                    let element = G::to_elements(set, *result, *other);
                    // SAFETY: the whole square lies there.
                    let to = unsafe { to.get_unchecked_mut(i * to_steps[0] + j * to_steps[1]) };
                    put(set, to, n, element);
                }
            }
        }
    }

    /// Squares `[N, N, len]`, transformed in their own place: `[M, M, len]`, where M is no more than N.
    #[inline(always)]
    fn in_place<S: Set>(set: S, squares: &mut [Lanes], len: usize) {
        for at in 0..len {
            let squares = &mut squares[at..];
            for n in 0..registers::<S>() {
                let results = Self::of::<S, F32>(set, squares, [N * len, len], n);
                for (index, result) in results.iter().flatten().enumerate() {
                    put(set, &mut squares[index * len], n, *result);
                }
            }
        }
    }
}

/// Bᵀ: of a tile's pixels.
pub struct Inputs;

/// G: of a kernel's weights.
pub struct Weights;

/// Aᵀ: from products to results.
pub struct Outputs;

/// A: of the gradients of results.
pub struct OutputGradients;

/// Gᵀ: from products to the gradients of weights.
pub struct WeightGradients;

impl Transform<4, 4> for Inputs {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 4]) -> [S::Register; 4] {
        [
            set.subtract(x[0], x[2]),
            set.add(x[1], x[2]),
            set.subtract(x[2], x[1]),
            set.subtract(x[3], x[1]),
        ]
    }
}

impl Transform<3, 4> for Weights {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 3]) -> [S::Register; 4] {
        let (outer, middle) = (half(set, set.add(x[0], x[2])), half(set, x[1]));
        [
            x[0],
            set.add(outer, middle),
            set.subtract(outer, middle),
            x[2],
        ]
    }
}

impl Transform<4, 2> for Outputs {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 4]) -> [S::Register; 2] {
        [
            set.add(set.add(x[0], x[1]), x[2]),
            set.add(set.subtract(x[1], x[2]), x[3]),
        ]
    }
}

impl Transform<2, 4> for OutputGradients {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 2]) -> [S::Register; 4] {
        [x[0], set.add(x[0], x[1]), set.subtract(x[0], x[1]), x[1]]
    }
}

impl Transform<4, 3> for WeightGradients {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 4]) -> [S::Register; 3] {
        let (sum, difference) = (set.add(x[1], x[2]), set.subtract(x[1], x[2]));
        let sum = half(set, sum);
        [
            set.add(x[0], sum),
            half(set, difference),
            set.add(sum, x[3]),
        ]
    }
}

/// One check for the whole of a square of `rows` and `columns`, `steps` apart, in place of one for each of its lanes.
///
/// # Panics
/// When its last lanes lie behind the first `len`.
#[inline(always)]
fn assert_square(len: usize, steps: [usize; 2], rows: usize, columns: usize) {
    let last = [(steps[0], rows), (steps[1], columns)]
        .map(|(step, count)| step.saturating_mul(count.saturating_sub(1)));
    assert!(last[0].saturating_add(last[1]) < len);
}

#[inline(always)]
fn half<S: Set>(set: S, x: S::Register) -> S::Register {
    set.multiply_add(x, get(set, &[0.5; PANEL], 0), set.zero())
}
