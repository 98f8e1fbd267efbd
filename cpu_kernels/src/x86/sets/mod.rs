//! The instruction sets that the kernels are written over: one module each.

mod amx;
mod avx2;
mod avx512;
#[cfg(test)]
mod emulated;

use super::format::Format;
use super::tiles::Tiles;
use crate::isa::Isa;

pub use amx::Amx;
pub use avx2::Avx2;
pub use avx512::Avx512;

/// Work that is compiled once for each instruction set.
pub trait Task {
    type Output;

    /// Implementations are `#[inline(always)]`, and so is all that they call: only code inlined into [`Set::run`] is
    /// compiled for the set.
    fn run<S: Set>(self, set: S) -> Self::Output;
}

/// An instruction set of this processor: whoever has a value of it may use its instructions.
pub trait Set: Copy + Send + Sync {
    /// [`Self::WIDTH`] values of f32, or as many pairs of bf16.
    type Register: Copy;

    /// What multiplies matrices of pairs of bf16, in sets that have it.
    type Tiles: Tiles;

    /// Values in a register: a divisor of 16.
    const WIDTH: usize;

    /// Panels of 16 columns in the widest block of a matrix product.
    const PANELS: usize;

    /// The height of a product's next block, `panels` wide, when `rows` are left, one at least. Its sums and a row of
    /// factors of either side fit into the registers, and the sums are enough to hide the latency of a multiply-add.
    /// `pairs`: the factors are pairs of bf16.
    fn height(rows: usize, panels: usize, pairs: bool) -> usize;

    /// Runs `task`, compiled for this set.
    fn run<T: Task>(self, task: T) -> T::Output;

    fn zero(self) -> Self::Register;

    /// # Safety
    /// A register's values must lie at `at`.
    unsafe fn load(self, at: *const f32) -> Self::Register;

    /// # Safety
    /// As [`Self::load`].
    unsafe fn store(self, at: *mut f32, values: Self::Register);

    /// The value at `at` in every place.
    ///
    /// # Safety
    /// A value must lie at `at`.
    unsafe fn broadcast(self, at: *const f32) -> Self::Register;

    fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;

    /// a − b.
    fn subtract(self, a: Self::Register, b: Self::Register) -> Self::Register;

    /// a · b + c, rounded once.
    fn multiply_add(
        self,
        a: Self::Register,
        b: Self::Register,
        c: Self::Register,
    ) -> Self::Register;

    /// 0 where `x` is below it, else `x`: what is not a number stays so until it reaches the loss.
    fn relu(self, x: Self::Register) -> Self::Register;

    /// `x` where `a` is above 0, else 0.
    fn where_positive(self, a: Self::Register, x: Self::Register) -> Self::Register;

    /// The larger of `a` and `b`; not a number where one of them is none.
    fn larger(self, a: Self::Register, b: Self::Register) -> Self::Register;

    /// `x` where `a` is above `b`, else `y`.
    fn where_larger(
        self,
        a: Self::Register,
        b: Self::Register,
        x: Self::Register,
        y: Self::Register,
    ) -> Self::Register;

    /// `x` where `a` equals `b`, else 0.
    fn where_equal(self, a: Self::Register, b: Self::Register, x: Self::Register)
    -> Self::Register;

    /// Values of bf16, as f32.
    ///
    /// # Safety
    /// As many values of bf16 as a register has must lie at `at`.
    unsafe fn load_bf16(self, at: *const u16) -> Self::Register;

    /// Stores values as bf16: the nearest, the even one of two. What is not a number stays so.
    ///
    /// # Safety
    /// As [`Self::load_bf16`].
    unsafe fn store_bf16(self, at: *mut u16, values: Self::Register);

    /// Pairs of bf16: the values at `even` in the lower halves, those at `odd` in the upper ones.
    ///
    /// # Safety
    /// As [`Self::load_bf16`], of both.
    unsafe fn pairs(self, even: *const u16, odd: *const u16) -> Self::Register;

    /// Pairs of the nearest values of bf16, as [`Self::store_bf16`] rounds: to `even` in the lower halves, to `odd` in the
    /// upper ones.
    fn to_pairs(self, even: Self::Register, odd: Self::Register) -> Self::Register;

    /// The lower value of each pair of bf16, as f32.
    fn even(self, pairs: Self::Register) -> Self::Register;

    /// The upper value of each pair of bf16, as f32.
    fn odd(self, pairs: Self::Register) -> Self::Register;

    /// c + the products of the values of each pair in `a` and `b`: first the odd ones, then the even ones, each rounded
    /// once, as the instruction does that some processors have.
    #[inline(always)]
    fn dot_pairs(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        dot_pairs_in_two(self, a, b, c)
    }

    /// `None` in sets without tiles.
    fn tiles(self) -> Option<Self::Tiles>;
}

/// [`Set::dot_pairs`] on a set without an instruction for it.
#[inline(always)]
fn dot_pairs_in_two<S: Set>(set: S, a: S::Register, b: S::Register, c: S::Register) -> S::Register {
    let odd = set.multiply_add(set.odd(a), set.odd(b), c);
    set.multiply_add(set.even(a), set.even(b), odd)
}

/// Runs `task`, whose values are of the format `F`, compiled for `isa`. With f32 the sets that differ in bf16 alone have the
/// same code.
///
/// # Panics
/// When this processor does not have `isa`, or there are no kernels for it: [`Isa::Generic`].
pub fn run<F: Format, T: Task>(isa: Isa, task: T) -> T::Output {
    let is_f32 = F::VALUES == 1;
    match isa {
        Isa::Avx2 => Avx2::new().map(|set| set.run(task)),
        Isa::Avx512 => Avx512::<false>::new().map(|set| set.run(task)),
        Isa::Avx512Bf16 | Isa::Amx if is_f32 => Avx512::<false>::new().map(|set| set.run(task)),
        Isa::Avx512Bf16 => Avx512::<true>::new().map(|set| set.run(task)),
        // Tests have tiles on every processor.
        #[cfg(test)]
        Isa::Amx if !isa.is_present() => emulated::Emulated::new().map(|set| set.run(task)),
        Isa::Amx => Avx512::with_tiles().map(|set| set.run(task)),
        Isa::Generic => None,
    }
    .unwrap_or_else(|| panic!("this processor has no kernels for {isa}"))
}

#[cfg(test)]
mod tests;
