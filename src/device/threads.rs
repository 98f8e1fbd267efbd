//! Checks that the system allows as many threads as the process needs: XLA ends the process when it cannot start one.

use std::env;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::data::Batches;
use crate::system::proc;

/// The system does not allow as many threads as the program needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system lets this process start no more than {found} threads, and {needed} are needed ({reason}). Raise the \
     limit (of a container's pids, or `ulimit -u`), or need fewer: run on fewer processors (taskset -c 0) or replicas"
)]
pub struct TooFewThreads {
    pub found: usize,
    pub needed: usize,
    reason: io::Error,
}

impl TooFewThreads {
    /// For when the very first thread is refused.
    pub fn first(reason: io::Error) -> Self {
        Self {
            found: 0,
            needed: 1,
            reason,
        }
    }
}

/// Starts as many threads as a run on `replicas` CPU devices does, and ends them again. That finds the limit whoever
/// sets it: the user, a container or the system. A run on an accelerator needs just as many.
///
/// # Errors
/// When the system refuses one of them.
pub fn rehearse(replicas: usize) -> Result<(), TooFewThreads> {
    let before = running();
    let result = start_and_end(needed(processors(), replicas));
    wait_for_the_ended(before);
    result
}

/// The most threads that the process starts from here on, as counted in runs with 2 to 32 processors.
fn needed(processors: usize, replicas: usize) -> usize {
    // Two pools for the devices, and one more while it compiles.
    let xla = 2 * processors.max(replicas) + processors;
    let kernels = processors;
    let uploads = replicas;
    // XLA's own three, checkpoints, a progress bar.
    const OTHERS: usize = 5;
    xla + kernels + uploads + Batches::default_workers() + OTHERS
}

/// The number of processors as XLA finds it.
fn processors() -> usize {
    let reserved = env::var("NPROC")
        .ok()
        .and_then(|number| number.parse().ok());
    let allowed = || Some(bits_in(&proc::allowed_processors()?));
    reserved
        .or_else(allowed)
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
}

/// How many processors a mask of hexadecimal digits names. Unlike Rust's count, XLA's knows no time quota.
fn bits_in(mask: &str) -> usize {
    let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
    digits.map(|digit| digit.count_ones() as usize).sum()
}

/// Starts `wanted` threads that all run at the same time.
fn start_and_end(wanted: usize) -> Result<(), TooFewThreads> {
    // They need next to no stack.
    const STACK_BYTES: usize = 16 << 10;
    let gate = Mutex::new(());
    let wait = || drop(gate.lock());
    thread::scope(|scope| {
        let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        for found in 0..wanted {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread
                .spawn_scoped(scope, wait)
                .map_err(|reason| TooFewThreads {
                    found,
                    needed: wanted,
                    reason,
                })?;
        }
        Ok(())
    })
}

/// Waits until the system no longer counts the ended threads, which takes it a moment.
fn wait_for_the_ended(running_before: usize) {
    const ENOUGH: Duration = Duration::from_secs(1);
    let start = Instant::now();
    while running() > running_before && start.elapsed() < ENOUGH {
        thread::sleep(Duration::from_micros(100));
    }
}

/// The threads of this process; 0 where the system does not say.
fn running() -> usize {
    proc::threads().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_more_or_a_replica_more_needs_more_threads() {
        assert!(needed(3, 1) > needed(2, 1));
        assert!(needed(2, 2) > needed(2, 1));
    }

    #[test]
    fn the_processors_are_counted_by_the_mask() {
        // Processors 0 to 3 and 32 to 39.
        assert_eq!(bits_in("ff,0000000f"), 12);
    }

    #[test]
    fn threads_that_the_system_gives_are_given_back() {
        assert!(start_and_end(20).is_ok());
    }
}
