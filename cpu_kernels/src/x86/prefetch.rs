//! Asking for memory before it is needed.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes that memory gives at a time.
const LINE: usize = 64;

/// What the next tile reads and writes, asked for piece by piece while this one is computed: the processor itself looks ahead
/// only while a tile is being read, and not beyond a page.
pub struct Ahead<'a, T> {
    reads: [&'a [T]; 4],
    writes: &'a [T],
    /// Of each of them.
    piece: usize,
}

impl<'a, T> Ahead<'a, T> {
    /// `steps` pieces of each.
    pub fn new(reads: [&'a [T]; 4], writes: &'a [T], steps: usize) -> Self {
        let longest = reads.iter().map(|values| values.len()).max().unwrap_or(0);
        let piece = longest.max(writes.len()).div_ceil(steps);
        Self {
            reads,
            writes,
            piece: piece.next_multiple_of(LINE / size_of::<T>()),
        }
    }

    /// Nothing lies ahead.
    pub fn nothing() -> Self {
        Self::new([&[]; 4], &[], 1)
    }

    /// Asks for the next piece of each. It is the same code for all sets.
    #[inline(never)]
    pub fn step(&mut self) {
        for values in &mut self.reads {
            let (piece, later) = values.split_at(self.piece.min(values.len()));
            *values = later;
            let start = piece.as_ptr().cast::<i8>();
            for at in (0..size_of_val(piece)).step_by(LINE) {
                // SAFETY: it lies in the piece; nothing is read.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
            }
        }
        let (piece, later) = self.writes.split_at(self.piece.min(self.writes.len()));
        self.writes = later;
        for at in (0..size_of_val(piece)).step_by(LINE) {
            let start = piece.as_ptr().cast::<i8>();
            // SAFETY: it lies in the piece; nothing is read or written. Processors without this instruction do nothing.
            unsafe {
                let line = start.add(at);
                asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
            }
        }
    }
}

/// `count` values from `first` on, as far as there are any.
#[inline(always)]
pub fn some<T>(values: &[T], first: usize, count: usize) -> &[T] {
    let values = values.get(first..).unwrap_or_default();
    &values[..count.min(values.len())]
}
