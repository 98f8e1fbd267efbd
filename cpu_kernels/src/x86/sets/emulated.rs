//! AVX2 with emulated tiles: whole layers run on tiles on processors that have none.

use super::{Avx2, Set, Task};
use crate::x86::tiles::Emulation;

#[derive(Clone, Copy)]
pub struct Emulated(Avx2);

impl Emulated {
    /// `None` when the processor has no AVX2.
    pub fn new() -> Option<Self> {
        Avx2::new().map(Self)
    }
}

/// `task` on `set`, compiled for AVX2.
struct OnEmulated<T> {
    set: Emulated,
    task: T,
}

impl<T: Task> Task for OnEmulated<T> {
    type Output = T::Output;

    #[inline(always)]
    fn run<S: Set>(self, _avx2: S) -> T::Output {
        self.task.run(self.set)
    }
}

type Register = <Avx2 as Set>::Register;

/// Operations on registers, by AVX2.
macro_rules! as_avx2 {
    ($($operation:ident($($value:ident),*);)*) => {
        $(
            #[inline(always)]
            fn $operation(self, $($value: Register),*) -> Register {
                self.0.$operation($($value),*)
            }
        )*
    };
}

impl Set for Emulated {
    type Register = Register;
    type Tiles = Emulation;

    const WIDTH: usize = Avx2::WIDTH;
    const PANELS: usize = Avx2::PANELS;

    fn height(rows: usize, panels: usize, pairs: bool) -> usize {
        Avx2::height(rows, panels, pairs)
    }

    #[inline(always)]
    fn run<T: Task>(self, task: T) -> T::Output {
        self.0.run(OnEmulated { set: self, task })
    }

    as_avx2! {
        zero();
        add(a, b);
        subtract(a, b);
        multiply_add(a, b, c);
        relu(x);
        where_positive(a, x);
        larger(a, b);
        where_larger(a, b, x, y);
        where_equal(a, b, x);
        to_pairs(even, odd);
        even(pairs);
        odd(pairs);
        dot_pairs(a, b, c);
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> Register {
        // SAFETY: the caller's, here and below.
        unsafe { self.0.load(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, values: Register) {
        unsafe { self.0.store(at, values) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, at: *const f32) -> Register {
        unsafe { self.0.broadcast(at) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, at: *const u16) -> Register {
        unsafe { self.0.load_bf16(at) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, at: *mut u16, values: Register) {
        unsafe { self.0.store_bf16(at, values) }
    }

    #[inline(always)]
    unsafe fn pairs(self, even: *const u16, odd: *const u16) -> Register {
        unsafe { self.0.pairs(even, odd) }
    }

    fn tiles(self) -> Option<Emulation> {
        Some(Emulation::default())
    }
}
