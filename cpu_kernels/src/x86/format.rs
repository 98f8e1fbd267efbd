//! The number formats of images between layers and of the factors of products.

use half::bf16;

use super::aligned::Aligned;
use super::gemm::PANEL;
use super::sets::Set;
use crate::ffi::Element;

/// 16 neighbouring channels of a pixel in f32.
pub type Lanes = [f32; PANEL];

/// 16 neighbouring channels of a pixel in bf16, which is the upper half of an f32.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub struct Half(pub [u16; PANEL]);

/// A number format. All sums are f32.
///
/// A product's factors are elements of 32 bits along the summed axis: a value of f32, or two of bf16.
pub trait Format: Copy + Send + Sync + 'static {
    /// 16 neighbouring channels of a pixel. Images are slices of these: pixel p's begin at p · C / 16.
    type Lanes: Element + Send + Sync;

    const ZERO: Self::Lanes;

    /// Values of an element.
    const VALUES: usize;

    /// Elements of [`Self::Lanes`].
    const ELEMENTS: usize = PANEL / Self::VALUES;

    /// Register `n` of the lanes.
    fn get<S: Set>(set: S, lanes: &Self::Lanes, n: usize) -> S::Register;

    /// Rounds `values` to register `n` of the lanes.
    fn put<S: Set>(set: S, lanes: &mut Self::Lanes, n: usize, values: S::Register);

    /// c + the products of the values of `a` and `b`, which are elements.
    fn multiply_add<S: Set>(set: S, a: S::Register, b: S::Register, c: S::Register) -> S::Register;

    /// Lanes as elements along the channels.
    fn elements(lanes: &[Self::Lanes]) -> &[f32];

    /// The lanes as what a product can be stored in, where they are sums as they stand.
    fn sums(lanes: &mut [Self::Lanes]) -> Option<&mut [Lanes]>;

    /// The lanes that lie in the place of `elements`.
    fn in_elements(elements: &mut [Lanes]) -> &mut [Self::Lanes];

    /// Elements of the nearest values to `first` and, where they are pairs, to those of `second`.
    fn to_elements<S: Set>(set: S, first: S::Register, second: S::Register) -> S::Register;

    /// Every `stride`-th of the pixels `[pixels, C]` with `parts` times 16 channels as elements along the pixels: two
    /// become one of `out` `[pixels / stride / 2, C]`, which is the result; or `pixels` are, as they stand, where
    /// [`Self::VALUES`] is 1.
    fn along_pixels<'a, S: Set>(
        set: S,
        pixels: &'a [Self::Lanes],
        parts: usize,
        stride: usize,
        out: &'a mut [Lanes],
    ) -> &'a [f32];

    /// `matrix` `[rows, columns]` as panels of 16 columns, `[columns / 16, rows / VALUES, 16]` elements: what a product
    /// reads fastest.
    fn pack(matrix: &[f32], rows: usize, columns: usize) -> Aligned<f32>;
}

/// Registers of 16 values.
#[inline(always)]
pub fn registers<S: Set>() -> usize {
    PANEL / S::WIDTH
}

/// Register `n` of `lanes`.
#[inline(always)]
pub fn get<S: Set>(set: S, lanes: &Lanes, n: usize) -> S::Register {
    let values = &lanes[n * S::WIDTH..(n + 1) * S::WIDTH];
    // SAFETY: a register's values lie there.
    unsafe { set.load(values.as_ptr()) }
}

/// Sets register `n` of `lanes`.
#[inline(always)]
pub fn put<S: Set>(set: S, lanes: &mut Lanes, n: usize, values: S::Register) {
    let place = &mut lanes[n * S::WIDTH..(n + 1) * S::WIDTH];
    // SAFETY: as in `get`.
    unsafe { set.store(place.as_mut_ptr(), values) }
}

#[derive(Clone, Copy)]
pub struct F32;

impl Format for F32 {
    type Lanes = Lanes;

    const ZERO: Lanes = [0.0; PANEL];
    const VALUES: usize = 1;

    #[inline(always)]
    fn get<S: Set>(set: S, lanes: &Lanes, n: usize) -> S::Register {
        get(set, lanes, n)
    }

    #[inline(always)]
    fn put<S: Set>(set: S, lanes: &mut Lanes, n: usize, values: S::Register) {
        put(set, lanes, n, values);
    }

    #[inline(always)]
    fn multiply_add<S: Set>(set: S, a: S::Register, b: S::Register, c: S::Register) -> S::Register {
        set.multiply_add(a, b, c)
    }

    #[inline(always)]
    fn elements(lanes: &[Lanes]) -> &[f32] {
        lanes.as_flattened()
    }

    #[inline(always)]
    fn sums(lanes: &mut [Lanes]) -> Option<&mut [Lanes]> {
        Some(lanes)
    }

    #[inline(always)]
    fn in_elements(elements: &mut [Lanes]) -> &mut [Lanes] {
        elements
    }

    #[inline(always)]
    fn to_elements<S: Set>(_set: S, first: S::Register, _second: S::Register) -> S::Register {
        first
    }

    #[inline(always)]
    fn along_pixels<'a, S: Set>(
        _set: S,
        pixels: &'a [Lanes],
        _parts: usize,
        _stride: usize,
        _out: &'a mut [Lanes],
    ) -> &'a [f32] {
        pixels.as_flattened()
    }

    fn pack(matrix: &[f32], rows: usize, columns: usize) -> Aligned<f32> {
        let mut panels = Aligned::zeros(rows * columns);
        for (row, values) in matrix.chunks_exact(columns).enumerate() {
            for (panel, part) in values.chunks_exact(PANEL).enumerate() {
                let start = (panel * rows + row) * PANEL;
                panels[start..start + PANEL].copy_from_slice(part);
            }
        }
        panels
    }
}

#[derive(Clone, Copy)]
pub struct Bf16;

impl Format for Bf16 {
    type Lanes = Half;

    const ZERO: Half = Half([0; PANEL]);
    const VALUES: usize = 2;

    #[inline(always)]
    fn get<S: Set>(set: S, lanes: &Half, n: usize) -> S::Register {
        let values = &lanes.0[n * S::WIDTH..(n + 1) * S::WIDTH];
        // SAFETY: a register's values lie there.
        unsafe { set.load_bf16(values.as_ptr()) }
    }

    #[inline(always)]
    fn put<S: Set>(set: S, lanes: &mut Half, n: usize, values: S::Register) {
        let place = &mut lanes.0[n * S::WIDTH..(n + 1) * S::WIDTH];
        // SAFETY: as in `get`.
        unsafe { set.store_bf16(place.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn multiply_add<S: Set>(set: S, a: S::Register, b: S::Register, c: S::Register) -> S::Register {
        set.dot_pairs(a, b, c)
    }

    #[inline(always)]
    fn elements(lanes: &[Half]) -> &[f32] {
        // SAFETY: `Half` has the alignment of an f32 and the size of `ELEMENTS` of them, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * Self::ELEMENTS) }
    }

    #[inline(always)]
    fn sums(_lanes: &mut [Half]) -> Option<&mut [Lanes]> {
        None
    }

    #[inline(always)]
    fn in_elements(elements: &mut [Lanes]) -> &mut [Half] {
        let lanes = elements.len() * Self::VALUES;
        // SAFETY: as in `elements`, and every bit pattern is one of bf16. Two of `Half` have the size of `Lanes`.
        unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), lanes) }
    }

    #[inline(always)]
    fn to_elements<S: Set>(set: S, first: S::Register, second: S::Register) -> S::Register {
        set.to_pairs(first, second)
    }

    #[inline(always)]
    fn along_pixels<'a, S: Set>(
        set: S,
        pixels: &'a [Half],
        parts: usize,
        stride: usize,
        out: &'a mut [Lanes],
    ) -> &'a [f32] {
        let pairs = pixels.chunks_exact(2 * stride * parts);
        for (pair, out) in pairs.zip(out.chunks_exact_mut(parts)) {
            let (even, odd) = pair.split_at(stride * parts);
            for (out, (even, odd)) in out.iter_mut().zip(even.iter().zip(odd)) {
                interleave(set, even, odd, out);
            }
        }
        out.as_flattened()
    }

    fn pack(matrix: &[f32], rows: usize, columns: usize) -> Aligned<f32> {
        let mut panels = Aligned::zeros(rows / 2 * columns);
        for (row, pair) in matrix.chunks_exact(2 * columns).enumerate() {
            let (even, odd) = pair.split_at(columns);
            let (even, odd) = (even.as_chunks::<PANEL>().0, odd.as_chunks::<PANEL>().0);
            for (panel, (even, odd)) in even.iter().zip(odd).enumerate() {
                let start = (panel * rows / 2 + row) * PANEL;
                let out = &mut panels[start..start + PANEL];
                for ((out, even), odd) in out.iter_mut().zip(even).zip(odd) {
                    let [even, odd] = [even, odd].map(|x| u32::from(bf16::from_f32(*x).to_bits()));
                    *out = f32::from_bits(even | odd << 16);
                }
            }
        }
        panels
    }
}

/// Pairs of the channels of two pixels.
#[inline(always)]
fn interleave<S: Set>(set: S, even: &Half, odd: &Half, out: &mut Lanes) {
    for n in 0..registers::<S>() {
        let here = n * S::WIDTH..(n + 1) * S::WIDTH;
        let (even, odd) = (&even.0[here.clone()], &odd.0[here]);
        // SAFETY: a register's values lie at both.
        let pairs = unsafe { set.pairs(even.as_ptr(), odd.as_ptr()) };
        put(set, out, n, pairs);
    }
}
