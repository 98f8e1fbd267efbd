//! What this machine's processors and memory can do at best: no operation can be faster than both allow, unless its
//! data is still in a cache, or it takes fewer multiplications than are counted (tiles).

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use cpu_kernels::format::{Bf16, F32};
use serde::Serialize;
use xla_graphs::Precision;

/// Rounds of multiply-adds in one measurement: some 10 ms.
const ROUNDS: usize = 2_000_000;
/// Bytes that each thread copies in one measurement: far more than its caches hold.
const COPIED: usize = 128 << 20;
/// The best of so many measurements counts.
const MEASUREMENTS: usize = 5;

/// The two bounds ("roofline", Williams, Waterman and Patterson 2009).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bound {
    /// Multiply-adds in registers, on all processors at once, in billions of floating-point operations a second.
    pub gflops: f64,
    /// A copy in memory, on all processors at once: 10⁹ bytes read and written a second.
    pub gb_per_s: f64,
}

impl Bound {
    /// Measures both on `threads` threads. The multiply-adds are those of the kernels in `precision` on their instruction set.
    pub fn measure(threads: usize, precision: Precision) -> Self {
        let isa = cpu_kernels::isa();
        Self {
            gflops: best(threads, |_: &mut ()| match precision {
                Precision::F32 => cpu_kernels::multiply_adds::<F32>(isa, ROUNDS),
                Precision::Bf16 => cpu_kernels::multiply_adds::<Bf16>(isa, ROUNDS),
            }),
            gb_per_s: best(threads, Copy::run),
        }
    }

    /// The fewest milliseconds that an operation of `flops` floating-point operations takes that moves `bytes` to and from memory.
    pub fn ms(&self, flops: usize, bytes: usize) -> f64 {
        (flops as f64 / self.gflops).max(bytes as f64 / self.gb_per_s) / 1e6
    }
}

/// Two pieces of memory.
struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Default for Copy {
    /// Both are written, so that the system has given them memory.
    fn default() -> Self {
        Self {
            from: vec![1; COPIED],
            to: vec![2; COPIED],
        }
    }
}

impl Copy {
    /// The bytes that it reads and writes.
    fn run(&mut self) -> usize {
        self.to.copy_from_slice(black_box(&self.from));
        black_box(&self.to);
        2 * COPIED
    }
}

/// Billions a second of what `work` says it has done, on `threads` threads that begin together: in the best of the
/// measurements.
fn best<S: Default>(threads: usize, work: impl Fn(&mut S) -> usize + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let measure = || {
        let mut state = S::default();
        let rates = (0..MEASUREMENTS).map(|_| {
            barrier.wait();
            let start = Instant::now();
            let done = work(&mut state);
            done as f64 / start.elapsed().as_secs_f64() / 1e9
        });
        rates.collect::<Vec<f64>>()
    };
    let rates: Vec<Vec<f64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(measure)).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        // The measurements cannot panic: they compute and copy.
        results.map(|rates| rates.expect("a measurement")).collect()
    });
    let of_all = |number: usize| rates.iter().map(|rates| rates[number]).sum::<f64>();
    (0..MEASUREMENTS).map(of_all).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_the_two_bounds_counts() {
        let bound = Bound {
            gflops: 100.0,
            gb_per_s: 10.0,
        };
        assert_eq!(bound.ms(1_000_000_000, 1), 10.0);
        assert_eq!(bound.ms(1, 1_000_000_000), 100.0);
    }

    #[test]
    fn the_best_measurement_counts_the_work_of_all_threads() {
        // 20 ms at least for what counts as 20 ms: never more than 1 a thread.
        let slept = |_: &mut ()| {
            thread::sleep(std::time::Duration::from_millis(20));
            20_000_000
        };
        let rate = best(3, slept);
        assert!(rate > 0.0 && rate <= 3.0, "{rate}");
    }
}
