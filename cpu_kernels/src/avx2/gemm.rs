//! Small matrix products on AVX2 registers.
//!
//! Everything here computes blocks of R x 16 elements, R at most 6: 12 registers of sums, which
//! hide the latency of the fused multiply-add, beside two of `b` and one of `a`.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use crate::isa::Isa;

/// Columns of a panel, and of a block of results.
pub const PANEL: usize = 16;
/// Rows of the largest block.
const MOST_ROWS: usize = 6;

/// Whether the kernels run here: the processor can run them, and nobody chose [`Isa::Generic`].
pub fn supported() -> bool {
    Isa::chosen() == Ok(Isa::Avx2)
}

/// # Panics
/// When the processor has no AVX2 with FMA.
pub fn assert_supported() {
    assert!(
        Isa::of_processor() == Isa::Avx2,
        "the kernels need a processor with AVX2 and FMA"
    );
}

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

/// The right factor, 16 columns: element (k, c) of segment s is `data[s * segment + k * step + c]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub data: &'a [f32],
    pub step: usize,
    pub segment: usize,
}

/// The summed axis: `segments` runs of `length`.
#[derive(Clone, Copy)]
pub struct Depth {
    pub segments: usize,
    pub length: usize,
}

/// `out[r * out_row + c] = Σ left(r, k) · right(k, c)` for `rows` rows and 16 columns, or that added
/// to `out`.
///
/// # Panics
/// When a factor or `out` is too short, or the processor is not [`supported`].
pub fn multiply(
    left: Left,
    right: Right,
    depth: Depth,
    rows: usize,
    out: &mut [f32],
    out_row: usize,
    add: bool,
) {
    assert_supported();
    assert!(left.step == 1 || left.row == 1);
    if rows == 0 || depth.segments == 0 || depth.length == 0 {
        return;
    }
    let last =
        |segment: usize, step: usize| (depth.segments - 1) * segment + (depth.length - 1) * step;
    assert!(last(left.segment, left.step) + (rows - 1) * left.row < left.data.len());
    assert!(last(right.segment, right.step) + PANEL <= right.data.len());
    assert!((rows - 1) * out_row + PANEL <= out.len());
    let mut row = 0;
    while row < rows {
        let count = block_rows(rows - row);
        // SAFETY: the processor has the instructions, and the assertions above bound every address:
        // the blocks cover rows 0 to `rows` once.
        unsafe {
            let a = left.data.as_ptr().add(row * left.row);
            let c = out.as_mut_ptr().add(row * out_row);
            match count {
                6 => block::<6>(a, left, right, depth, c, out_row, add),
                4 => block::<4>(a, left, right, depth, c, out_row, add),
                _ => block::<1>(a, left, right, depth, c, out_row, add),
            }
        }
        row += count;
    }
}

/// The height of the next block when `left` rows are left: six, or four where that comes out even.
fn block_rows(left: usize) -> usize {
    match left {
        4 | 5 | 8 => 4,
        MOST_ROWS.. => MOST_ROWS,
        _ => 1,
    }
}

/// One block of [`multiply`], from row `a` to row `c`.
///
/// # Safety
/// Every element that the arguments name must lie in the slices they come from, and the processor
/// must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const R: usize>(
    a: *const f32,
    left: Left,
    right: Right,
    depth: Depth,
    c: *mut f32,
    out_row: usize,
    add: bool,
) {
    // SAFETY: as above.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for segment in 0..depth.segments {
            let a = a.add(segment * left.segment);
            let b = right.data.as_ptr().add(segment * right.segment);
            // A constant step of 1 lets the compiler keep one index for all rows.
            if left.step == 1 {
                run::<R>(&mut sums, a, left.row, 1, b, right.step, depth.length);
            } else {
                run::<R>(&mut sums, a, 1, left.step, b, right.step, depth.length);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let at = c.add(r * out_row);
            let (mut low, mut high) = (sum[0], sum[1]);
            if add {
                low = _mm256_add_ps(low, _mm256_loadu_ps(at));
                high = _mm256_add_ps(high, _mm256_loadu_ps(at.add(8)));
            }
            _mm256_storeu_ps(at, low);
            _mm256_storeu_ps(at.add(8), high);
        }
    }
}

/// Adds one segment's products to `sums`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const R: usize>(
    sums: &mut [[__m256; 2]; R],
    a: *const f32,
    row: usize,
    step: usize,
    b: *const f32,
    b_step: usize,
    length: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        for k in 0..length {
            let at = b.add(k * b_step);
            let (low, high) = (_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)));
            let at = a.add(k * step);
            for (r, sum) in sums.iter_mut().enumerate() {
                let factor = _mm256_broadcast_ss(&*at.add(r * row));
                sum[0] = _mm256_fmadd_ps(factor, low, sum[0]);
                sum[1] = _mm256_fmadd_ps(factor, high, sum[1]);
            }
        }
    }
}

/// `matrix` `[rows, columns]` as panels of 16 columns, `[columns / 16, rows, 16]`: what [`Right`]
/// reads fastest.
pub fn pack(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut panels = vec![0.0; rows * columns];
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (panel, part) in values.chunks_exact(PANEL).enumerate() {
            let start = (panel * rows + row) * PANEL;
            panels[start..start + PANEL].copy_from_slice(part);
        }
    }
    panels
}
