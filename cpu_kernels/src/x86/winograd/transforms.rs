//! The transforms of Winograd's F(2x2, 3x3) and F(4x4, 3x3), of 16 neighbouring channels at a time.
//!
//! With three weights k, in F(2x2, 3x3) four neighbouring pixels d give two results y of a convolution, from four products instead of six:
//!
//! ```text
//!                            1  0 -1  0         1  0  0
//! y = Aᵀ (G k ⊙ Bᵀ d)   Bᵀ = 0  1  1  0     G = ½  ½  ½     Aᵀ = 1  1  1  0
//!                            0 -1  1  0         ½ -½  ½          0  1 -1  1
//!                            0 -1  0  1         0  0  1
//! ```
//!
//! In F(4x4, 3x3) six pixels give four results from six products. Its matrices are those of the points 0, ±a, ±b and ∞, with
//! a = 5/8 and b = 3/2, which round less than the usual 1 and 2. With p = a²b², s = a² + b²,
//! n = 1 / (2a²(a² − b²)) and m = 1 / (2b²(b² − a²)):
//!
//! ```text
//!      p   0   −s   0   1  0         1/p   0   0
//!      0 −ab² −b²   a   1  0         n    na  na²          1   1   1   1   1   0
//! Bᵀ = 0  ab² −b²  −a   1  0     G = n   −na  na²     Aᵀ = 0   a  −a   b  −b   0
//!      0 −a²b −a²   b   1  0         m    mb  mb²          0   a²  a²  b²  b²  0
//!      0  a²b −a²  −b   1  0         m   −mb  mb²          0   a³ −a³  b³ −b³  1
//!      0   p   0   −s   0  1         0     0   1
//! ```
//!
//! On images, each goes along the columns and then along the rows. docs/numerics.md has the rest, and what it rounds.

use super::super::format::{Format, Lanes, get, put, registers};
use super::super::gemm::PANEL;
use super::super::sets::Set;

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

    /// All registers of the square that begins with `from`, to that which begins with `to`: `rows` and `columns` of it, or as
    /// many as there are, rounded to the format `G`.
    #[inline(always)]
    fn square<S: Set, F: Format, G: Format>(
        set: S,
        from: &[F::Lanes],
        steps: [usize; 2],
        to: &mut [G::Lanes],
        to_steps: [usize; 2],
        [rows, columns]: [usize; 2],
    ) {
        let [rows, columns] = [rows.min(M), columns.min(M)];
        assert_square(to.len(), to_steps, rows, columns);
        for n in 0..registers::<S>() {
            let results = Self::of::<S, F>(set, from, steps, n);
            // Almost all squares are whole: for them the compiler knows how many rows and columns there are.
            let inside = [rows, columns];
            // SAFETY: the whole square lies there.
            unsafe {
                match inside == [M, M] {
                    true => store::<S, G, M>(set, &results, n, to, to_steps, [M, M]),
                    false => store::<S, G, M>(set, &results, n, to, to_steps, inside),
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
}

/// Stores `rows` and `columns` of `results` as register `n` of the square that begins with `to`.
///
/// # Safety
/// They must lie there, `to_steps` apart.
#[inline(always)]
unsafe fn store<S: Set, G: Format, const M: usize>(
    set: S,
    results: &[[S::Register; M]; M],
    n: usize,
    to: &mut [G::Lanes],
    to_steps: [usize; 2],
    [rows, columns]: [usize; 2],
) {
    for (i, results) in results.iter().enumerate().take(rows) {
        for (j, result) in results.iter().enumerate().take(columns) {
            // SAFETY: the caller's.
            let to = unsafe { to.get_unchecked_mut(i * to_steps[0] + j * to_steps[1]) };
            G::put(set, to, n, *result);
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

/// Powers of the points a and b of F(4x4, 3x3), and what else its matrices consist of. All but [`P_INVERSE`], [`N`] and [`M`]
/// are exact in f32.
const A: f32 = 5.0 / 8.0;
const A2: f32 = A * A;
const A3: f32 = A * A * A;
const B: f32 = 3.0 / 2.0;
const B2: f32 = B * B;
const B3: f32 = B * B * B;
const P: f32 = A2 * B2;
const SUM: f32 = A2 + B2;
const P_INVERSE: f32 = 1.0 / P;
const N: [f32; 3] = over_three_powers(A, 2.0 * A2 * (A2 - B2));
const M: [f32; 3] = over_three_powers(B, 2.0 * B2 * (B2 - A2));

/// 1, x and x², each divided by `divisor`.
const fn over_three_powers(x: f32, divisor: f32) -> [f32; 3] {
    [1.0 / divisor, x / divisor, x * x / divisor]
}

impl Transform<6, 6> for Inputs {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 6]) -> [S::Register; 6] {
        let (even_a, odd_a) = (add(set, -B2, x[2], x[4]), add(set, -B2, x[1], x[3]));
        let (even_b, odd_b) = (add(set, -A2, x[2], x[4]), add(set, -A2, x[1], x[3]));
        [
            add(set, P, x[0], add(set, -SUM, x[2], x[4])),
            add(set, A, odd_a, even_a),
            add(set, -A, odd_a, even_a),
            add(set, B, odd_b, even_b),
            add(set, -B, odd_b, even_b),
            add(set, P, x[1], add(set, -SUM, x[3], x[5])),
        ]
    }
}

impl Transform<3, 6> for Weights {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 3]) -> [S::Register; 6] {
        let even_a = add(set, N[2], x[2], times(set, N[0], x[0]));
        let even_b = add(set, M[2], x[2], times(set, M[0], x[0]));
        let [a, minus_a] = sum_and_difference(set, even_a, times(set, N[1], x[1]));
        let [b, minus_b] = sum_and_difference(set, even_b, times(set, M[1], x[1]));
        [times(set, P_INVERSE, x[0]), a, minus_a, b, minus_b, x[2]]
    }
}

impl Transform<6, 4> for Outputs {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 6]) -> [S::Register; 4] {
        let [sum_a, difference_a] = sum_and_difference(set, x[1], x[2]);
        let [sum_b, difference_b] = sum_and_difference(set, x[3], x[4]);
        [
            set.add(set.add(x[0], sum_a), sum_b),
            add(set, B, difference_b, times(set, A, difference_a)),
            add(set, B2, sum_b, times(set, A2, sum_a)),
            add(set, B3, difference_b, add(set, A3, difference_a, x[5])),
        ]
    }
}

impl Transform<4, 6> for OutputGradients {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 4]) -> [S::Register; 6] {
        let (even_a, even_b) = (add(set, A2, x[2], x[0]), add(set, B2, x[2], x[0]));
        let odd_a = add(set, A3, x[3], times(set, A, x[1]));
        let odd_b = add(set, B3, x[3], times(set, B, x[1]));
        let [a, minus_a] = sum_and_difference(set, even_a, odd_a);
        let [b, minus_b] = sum_and_difference(set, even_b, odd_b);
        [x[0], a, minus_a, b, minus_b, x[3]]
    }
}

impl Transform<6, 3> for WeightGradients {
    #[inline(always)]
    fn along<S: Set>(set: S, x: [S::Register; 6]) -> [S::Register; 3] {
        let [sum_a, difference_a] = sum_and_difference(set, x[1], x[2]);
        let [sum_b, difference_b] = sum_and_difference(set, x[3], x[4]);
        [
            add(
                set,
                P_INVERSE,
                x[0],
                add(set, N[0], sum_a, times(set, M[0], sum_b)),
            ),
            add(set, N[1], difference_a, times(set, M[1], difference_b)),
            add(set, N[2], sum_a, add(set, M[2], sum_b, x[5])),
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

/// x + y and x − y.
#[inline(always)]
fn sum_and_difference<S: Set>(set: S, x: S::Register, y: S::Register) -> [S::Register; 2] {
    [set.add(x, y), set.subtract(x, y)]
}

#[inline(always)]
fn half<S: Set>(set: S, x: S::Register) -> S::Register {
    times(set, 0.5, x)
}

/// factor · x.
#[inline(always)]
fn times<S: Set>(set: S, factor: f32, x: S::Register) -> S::Register {
    add(set, factor, x, set.zero())
}

/// factor · x + y, rounded once.
#[inline(always)]
fn add<S: Set>(set: S, factor: f32, x: S::Register, y: S::Register) -> S::Register {
    set.multiply_add(x, get(set, &[factor; PANEL], 0), y)
}
