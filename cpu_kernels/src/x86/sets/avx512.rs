//! AVX-512: 32 registers of 16 values.

use std::arch::x86_64::*;

use super::{Amx, Set, Task, dot_pairs_in_two};
use crate::isa::Isa;

/// Shows that the processor has AVX-512 (F, BW, DQ and VL), and with `BF16` its products of bf16 too.
#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool> {
    tiles: Option<Amx>,
}

impl<const BF16: bool> Avx512<BF16> {
    /// `None` when the processor does not have it.
    pub fn new() -> Option<Self> {
        let needed = if BF16 { Isa::Avx512Bf16 } else { Isa::Avx512 };
        (Isa::of_registers() >= needed).then_some(Self { tiles: None })
    }
}

impl Avx512<true> {
    /// With products of bf16 on tiles. `None` when the processor does not have them.
    pub fn with_tiles() -> Option<Self> {
        let tiles = Amx::new()?;
        Some(Self { tiles: Some(tiles) })
    }
}

// SAFETY, of all blocks below: the processor has the instructions, because there is a value of `Avx512`; addresses are
// the caller's.
impl<const BF16: bool> Set for Avx512<BF16> {
    type Register = __m512;
    type Tiles = Amx;

    const WIDTH: usize = 16;
    const PANELS: usize = 2;

    /// Sixteen registers of sums in the tallest: a value from the left is loaded for two products where there are two
    /// panels.
    #[inline(always)]
    fn height(rows: usize, panels: usize, _pairs: bool) -> usize {
        match rows {
            16.. if panels == 1 => 16,
            8.. => 8,
            4.. => 4,
            _ => 1,
        }
    }

    #[inline(always)]
    fn run<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn compiled<T: Task, const BF16: bool>(set: Avx512<BF16>, task: T) -> T::Output {
            task.run(set)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn compiled_with_bf16<T: Task, const BF16: bool>(set: Avx512<BF16>, task: T) -> T::Output {
            task.run(set)
        }
        match BF16 {
            true => unsafe { compiled_with_bf16(self, task) },
            false => unsafe { compiled(self, task) },
        }
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, values: __m512) {
        unsafe { _mm512_storeu_ps(at, values) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, at: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*at) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, x: __m512) -> __m512 {
        // The second operand is the result where either is not a number.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), x) }
    }

    #[inline(always)]
    fn where_positive(self, a: __m512, x: __m512) -> __m512 {
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, x)
        }
    }

    #[inline(always)]
    fn larger(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            // The instruction gives `b` where either is not a number.
            let a_is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(_mm512_max_ps(a, b), a_is_nan, a)
        }
    }

    #[inline(always)]
    fn where_larger(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), x) }
    }

    #[inline(always)]
    fn where_equal(self, a: __m512, b: __m512, x: __m512) -> __m512 {
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), x) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, at: *const u16) -> __m512 {
        unsafe {
            let halves = _mm512_zextsi256_si512(_mm256_loadu_si256(at.cast()));
            in_order(&UPPER_HALVES, halves)
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, at: *mut u16, values: __m512) {
        unsafe {
            if BF16 {
                let halves: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
                _mm256_storeu_si256(at.cast(), halves);
                return;
            }
            let upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(nearest_bf16(values)));
            _mm256_storeu_si256(at.cast(), upper);
        }
    }

    #[inline(always)]
    unsafe fn pairs(self, even: *const u16, odd: *const u16) -> __m512 {
        unsafe {
            let even = _mm512_castsi256_si512(_mm256_loadu_si256(even.cast()));
            let halves = _mm512_inserti64x4::<1>(even, _mm256_loadu_si256(odd.cast()));
            in_order(&EVEN_AND_ODD, halves)
        }
    }

    #[inline(always)]
    fn to_pairs(self, even: __m512, odd: __m512) -> __m512 {
        unsafe {
            if BF16 {
                let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(odd, even));
                return in_order(&EVEN_AND_ODD, halves);
            }
            let even = _mm512_srli_epi32::<16>(nearest_bf16(even));
            // The upper halves of each 32 bits from the odd values.
            let pairs = _mm512_mask_mov_epi16(even, 0xaaaa_aaaa, nearest_bf16(odd));
            _mm512_castsi512_ps(pairs)
        }
    }

    #[inline(always)]
    fn even(self, pairs: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(pairs))) }
    }

    #[inline(always)]
    fn odd(self, pairs: __m512) -> __m512 {
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), upper))
        }
    }

    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        match BF16 {
            true => unsafe {
                let pairs = |x| std::mem::transmute::<__m512, __m512bh>(x);
                // `a` last: where it is one value in every place, the instruction reads it from memory itself, and as the
                // second factor alone. On its own that is a third more time for a block that is one register wide.
                _mm512_dpbf16_ps(c, pairs(b), pairs(a))
            },
            false => dot_pairs_in_two(self, a, b, c),
        }
    }

    #[inline(always)]
    fn tiles(self) -> Option<Amx> {
        if BF16 { self.tiles } else { None }
    }
}

/// 32 values of 16 bits, rearranged: at each place the one whose number `order` has there.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn in_order(order: &[u16; 32], values: __m512i) -> __m512 {
    // SAFETY: the caller's, and a register's values lie in `order`.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, values))
    }
}

/// Puts 16 values beside 16 others in turn.
static EVEN_AND_ODD: [u16; 32] = {
    let mut order = [0; 32];
    let mut pair = 0;
    while pair < 16 {
        order[2 * pair] = pair as u16;
        order[2 * pair + 1] = 16 + pair as u16;
        pair += 1;
    }
    order
};

/// Puts the first 16 of 32 values, of which the last is 0, into the upper halves of 32 bits each, and that 0 into the lower.
static UPPER_HALVES: [u16; 32] = {
    let mut order = [31; 32];
    let mut value = 0;
    while value < 16 {
        order[2 * value + 1] = value as u16;
        value += 1;
    }
    order
};

/// The values of bf16 next to `values`, in the upper halves; the lower ones are of no use.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn nearest_bf16(values: __m512) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(values);
        // Half a unit of the result, less one bit where the result would be even: halves go to the even one.
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff));
        let nearest = _mm512_add_epi32(bits, half);
        // Rounding could turn what is not a number into one.
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        let quiet = _mm512_set1_epi32(0x0040_0000);
        _mm512_mask_or_epi32(nearest, is_nan, bits, quiet)
    }
}
