//! The processor's own speed: multiply-adds whose factors are in registers already, the bound of every product.

use std::hint::black_box;
use std::marker::PhantomData;

use super::format::Format;
use super::gemm::PANEL;
use super::sets::{self, Set, Task};
use super::tiles;
use crate::isa::Isa;

/// Sums that do not wait for each other: enough to hide the latency of a multiply-add, and few enough for
/// the 16 registers of AVX2.
const SUMS: usize = 12;

/// Does `rounds` times 12 multiply-adds of registers of `F` on `isa`, or 4 of tiles, on this thread, and returns their
/// floating-point operations. The caller takes the time.
///
/// # Panics
/// When this processor does not have `isa`, or there are no kernels for it: [`Isa::Generic`].
pub fn multiply_adds<F: Format>(isa: Isa, rounds: usize) -> usize {
    let format = PhantomData::<F>;
    sets::run::<F, _>(isa, MultiplyAdds { rounds, format })
}

struct MultiplyAdds<F> {
    rounds: usize,
    format: PhantomData<F>,
}

impl<F: Format> Task for MultiplyAdds<F> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Set>(self, set: S) -> usize {
        if let Some(tiles) = tiles::tiles_for::<S, F>(set) {
            return tiles::multiply_adds(tiles, self.rounds);
        }
        let factors = black_box([[0.0f32; PANEL]; 2]);
        let mut sums = [set.zero(); SUMS];
        // SAFETY: a register's values lie in each of the arrays: its width is 16 at most.
        unsafe {
            let (a, b) = (set.load(factors[0].as_ptr()), set.load(factors[1].as_ptr()));
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = F::multiply_add(set, a, b, *sum);
                }
            }
            let mut results = [[0.0f32; PANEL]; SUMS];
            for (sum, result) in sums.iter().zip(&mut results) {
                set.store(result.as_mut_ptr(), *sum);
            }
            black_box(results);
        }
        // A product and a sum for each value.
        2 * F::VALUES * S::WIDTH * SUMS * self.rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::format::{Bf16, F32};

    #[test]
    fn the_operations_are_two_for_each_value_of_each_register() {
        if Isa::of_processor() < Isa::Avx2 {
            println!("skipped: this processor has no AVX2");
            return;
        }
        // 8 values of f32, or 8 pairs of bf16, in each of 12 registers.
        assert_eq!(multiply_adds::<F32>(Isa::Avx2, 5), 2 * 8 * 12 * 5);
        assert_eq!(multiply_adds::<Bf16>(Isa::Avx2, 5), 2 * 2 * 8 * 12 * 5);
    }
}
