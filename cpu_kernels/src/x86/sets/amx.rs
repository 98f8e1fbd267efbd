//! AMX: eight registers that hold a matrix each.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::LazyLock;

use crate::isa::Isa;
use crate::x86::tiles::{SIDE, Shapes, Tiles};

/// Shows that the processor has AVX-512 with products of bf16, and tiles, which this process may use.
#[derive(Clone, Copy)]
pub struct Amx(());

impl Amx {
    /// `None` when the processor does not have them, or the system does not let this process use them.
    pub fn new() -> Option<Self> {
        static USABLE: LazyLock<bool> =
            LazyLock::new(|| Isa::of_registers() == Isa::Avx512Bf16 && has_tiles() && permitted());
        USABLE.then_some(Self(()))
    }
}

/// Whether the processor has tiles with products of bf16, and the system saves them when threads take turns. The
/// processor has AVX-512.
fn has_tiles() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const SHAPES: u64 = 1 << 17;
    const REGISTERS: u64 = 1 << 18;
    // SAFETY: a processor with AVX-512 has leaf 7 and XGETBV.
    let (features, saved) = unsafe { (__cpuid_count(7, 0).edx, _xgetbv(0)) };
    let has_all = |bits: u64, needed: u64| bits & needed == needed;
    has_all(features.into(), (AMX_BF16 | AMX_TILE).into()) && has_all(saved, SHAPES | REGISTERS)
}

/// Asks the system, which gives tiles only to a process that has asked: for all its threads.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const REGISTERS: libc::c_ulong = 18;
    // SAFETY: both arguments are numbers.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, REGISTERS) == 0 }
}

/// How other systems are asked has not been tried.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// An instruction that changes the register of number `$tile`, which takes the place of `{tile}` in it.
macro_rules! on_tile {
    ($tile:expr, $instruction:literal $($operands:tt)*) => {
        match $tile {
            0 => on_one_tile!(0, "tmm0", $instruction $($operands)*),
            1 => on_one_tile!(1, "tmm1", $instruction $($operands)*),
            2 => on_one_tile!(2, "tmm2", $instruction $($operands)*),
            3 => on_one_tile!(3, "tmm3", $instruction $($operands)*),
            4 => on_one_tile!(4, "tmm4", $instruction $($operands)*),
            5 => on_one_tile!(5, "tmm5", $instruction $($operands)*),
            6 => on_one_tile!(6, "tmm6", $instruction $($operands)*),
            7 => on_one_tile!(7, "tmm7", $instruction $($operands)*),
            tile => unreachable!("there is no register {tile}"),
        }
    };
}

/// The same, with the register written out.
macro_rules! on_one_tile {
    ($tile:literal, $register:tt, $instruction:literal $($operands:tt)*) => {
        asm!(
            $instruction,
            tile = const $tile
            $($operands)*,
            out($register) _,
            options(nostack, preserves_flags)
        )
    };
}

/// An instruction that changes all registers.
macro_rules! on_all_tiles {
    ($instruction:literal $($operands:tt)*) => {
        asm!(
            $instruction
            $($operands)*,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
}

// SAFETY, of all blocks below: the processor has the instructions, because there is an `Amx`; addresses are the caller's.
// What one statement leaves in a register is there for the next: the compiler makes no use of these registers itself, and
// keeps statements of assembly in their order.
impl Tiles for Amx {
    #[inline(always)]
    fn configure(&mut self, shapes: &Shapes) {
        let shapes = std::ptr::from_ref(shapes);
        unsafe { on_all_tiles!("ldtilecfg [{shapes}]", shapes = in(reg) shapes) }
    }

    #[inline(always)]
    fn release(&mut self) {
        unsafe { on_all_tiles!("tilerelease") }
    }

    #[inline(always)]
    fn zero(&mut self, tile: usize) {
        unsafe { on_tile!(tile, "tilezero tmm{tile}") }
    }

    #[inline(always)]
    unsafe fn load(&mut self, tile: usize, from: *const f32, row: usize) {
        let bytes = row * size_of::<f32>();
        unsafe {
            on_tile!(
                tile,
                "tileloadd tmm{tile}, [{from} + {bytes}]",
                from = in(reg) from,
                bytes = in(reg) bytes
            )
        }
    }

    #[inline(always)]
    unsafe fn store(&mut self, tile: usize, to: *mut f32, row: usize) {
        let bytes = row * size_of::<f32>();
        unsafe {
            on_tile!(
                tile,
                "tilestored [{to} + {bytes}], tmm{tile}",
                to = in(reg) to,
                bytes = in(reg) bytes
            )
        }
    }

    #[inline(always)]
    fn multiply_add<const LEFT: usize, const RIGHT: usize>(&mut self, sums: usize) {
        macro_rules! multiply_add {
            ($tile:literal, $register:tt) => {
                on_one_tile!(
                    $tile,
                    $register,
                    "tdpbf16ps tmm{tile}, tmm{left}, tmm{right}",
                    left = const LEFT,
                    right = const RIGHT
                )
            };
        }
        // The assembler refuses an instruction with a register twice.
        unsafe {
            match sums {
                0 => multiply_add!(0, "tmm0"),
                1 => multiply_add!(1, "tmm1"),
                2 => multiply_add!(2, "tmm2"),
                3 => multiply_add!(3, "tmm3"),
                _ => unreachable!("no sums are in register {sums}"),
            }
        }
    }

    #[inline(always)]
    unsafe fn turn(
        &mut self,
        from: *const f32,
        to: *mut f32,
        [row, to_row]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) {
        let present = ((1_u32 << columns) - 1) as __mmask16;
        unsafe {
            let mut values = [_mm512_setzero_ps(); SIDE];
            for (r, values) in values.iter_mut().enumerate() {
                let from = from.add(r.min(rows - 1) * row);
                *values = _mm512_maskz_loadu_ps(present, from);
            }
            for (r, values) in transposed(values).into_iter().enumerate() {
                _mm512_storeu_ps(to.add(r * to_row), values);
            }
        }
    }
}

/// The columns of 16 rows.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn transposed(rows: [__m512; SIDE]) -> [__m512; SIDE] {
    // SAFETY: the caller's.
    unsafe {
        let zeros = [_mm512_setzero_ps(); SIDE];
        // A register has four quarters. In each of them: squares of 2x2 values, then of 4x4.
        let mut twos = zeros;
        for i in (0..SIDE).step_by(2) {
            twos[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            twos[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        let mut fours = zeros;
        for i in (0..SIDE).step_by(4) {
            for half in 0..2 {
                let a = _mm512_castps_pd(twos[i + half]);
                let b = _mm512_castps_pd(twos[i + half + 2]);
                fours[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                fours[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        // Column 4 q + i is quarter q of every fourth of them.
        let mut columns = zeros;
        for i in 0..4 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|first| fours[first + i]);
            let lower = [
                _mm512_shuffle_f32x4::<0x44>(a, b),
                _mm512_shuffle_f32x4::<0x44>(c, d),
            ];
            let upper = [
                _mm512_shuffle_f32x4::<0xee>(a, b),
                _mm512_shuffle_f32x4::<0xee>(c, d),
            ];
            columns[i] = _mm512_shuffle_f32x4::<0x88>(lower[0], lower[1]);
            columns[4 + i] = _mm512_shuffle_f32x4::<0xdd>(lower[0], lower[1]);
            columns[8 + i] = _mm512_shuffle_f32x4::<0x88>(upper[0], upper[1]);
            columns[12 + i] = _mm512_shuffle_f32x4::<0xdd>(upper[0], upper[1]);
        }
        columns
    }
}
