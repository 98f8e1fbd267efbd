//! AVX2 with FMA: 16 registers of 8 values.

use std::arch::x86_64::*;

use super::{Amx, Set, Task};
use crate::isa::Isa;

/// Shows that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// `None` when the processor does not have it.
    pub fn new() -> Option<Self> {
        (Isa::of_registers() >= Isa::Avx2).then_some(Self(()))
    }
}

// SAFETY, of all blocks below: the processor has the instructions, because there is a value of `Avx2`; addresses are the
// caller's.
impl Set for Avx2 {
    type Register = __m256;
    type Tiles = Amx;

    const WIDTH: usize = 8;
    const PANELS: usize = 1;

    /// Twelve registers of sums in the tallest, eight beside pairs; four rows where that comes out even.
    #[inline(always)]
    fn height(rows: usize, _panels: usize, pairs: bool) -> usize {
        match rows {
            4 | 5 | 8 => 4,
            6.. if !pairs => 6,
            4.. => 4,
            _ => 1,
        }
    }

    #[inline(always)]
    fn run<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<T: Task>(set: Avx2, task: T) -> T::Output {
            task.run(set)
        }
        unsafe { compiled(self, task) }
    }

    #[inline(always)]
    fn zero(self) -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, values: __m256) {
        unsafe { _mm256_storeu_ps(at, values) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, at: *const f32) -> __m256 {
        unsafe { _mm256_broadcast_ss(&*at) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, x: __m256) -> __m256 {
        // The second operand is the result where either is not a number.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), x) }
    }

    #[inline(always)]
    fn where_positive(self, a: __m256, x: __m256) -> __m256 {
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, _mm256_setzero_ps()), x) }
    }

    #[inline(always)]
    fn larger(self, a: __m256, b: __m256) -> __m256 {
        unsafe {
            // The instruction gives `b` where either is not a number.
            let a_is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
            _mm256_blendv_ps(_mm256_max_ps(a, b), a, a_is_nan)
        }
    }

    #[inline(always)]
    fn where_larger(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn where_equal(self, a: __m256, b: __m256, x: __m256) -> __m256 {
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b), x) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, at: *const u16) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, at: *mut u16, values: __m256) {
        unsafe {
            let upper = _mm256_srli_epi32::<16>(nearest_bf16(values));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(upper, upper));
            _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    unsafe fn pairs(self, even: *const u16, odd: *const u16) -> __m256 {
        unsafe {
            let even = _mm256_cvtepu16_epi32(_mm_loadu_si128(even.cast()));
            let odd = _mm256_cvtepu16_epi32(_mm_loadu_si128(odd.cast()));
            _mm256_castsi256_ps(_mm256_or_si256(even, _mm256_slli_epi32::<16>(odd)))
        }
    }

    #[inline(always)]
    fn to_pairs(self, even: __m256, odd: __m256) -> __m256 {
        unsafe {
            let even = _mm256_srli_epi32::<16>(nearest_bf16(even));
            // The upper halves of each 32 bits from the odd values.
            let pairs = _mm256_blend_epi16::<0b1010_1010>(even, nearest_bf16(odd));
            _mm256_castsi256_ps(pairs)
        }
    }

    #[inline(always)]
    fn even(self, pairs: __m256) -> __m256 {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs))) }
    }

    #[inline(always)]
    fn odd(self, pairs: __m256) -> __m256 {
        unsafe {
            let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
            _mm256_and_ps(pairs, upper)
        }
    }

    #[inline(always)]
    fn tiles(self) -> Option<Amx> {
        None
    }
}

/// The values of bf16 next to `values`, in the upper halves; the lower ones are of no use.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn nearest_bf16(values: __m256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm256_castps_si256(values);
        // Half a unit of the result, less one bit where the result would be even: halves go to the even one.
        let last = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff));
        let nearest = _mm256_add_epi32(bits, half);
        // Rounding could turn what is not a number into one.
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
        _mm256_blendv_epi8(nearest, quiet, is_nan)
    }
}
