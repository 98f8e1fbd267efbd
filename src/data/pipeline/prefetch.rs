//! Batches made ahead of time on worker threads.
//!
//! Of W workers, worker w sends the batches of steps w, w + W, w + 2 W, … of a range to its own bounded channel; the
//! consumer takes from the channels in turn. So batches come in order, and their content does not depend on W.

use std::any::Any;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::data::error::DataError;
use crate::data::pipeline::batches::{Batch, BatchSource};

/// Batches that each worker prepares ahead of time.
const QUEUE_LEN: usize = 2;

/// The batches of a range of steps, in order.
#[derive(Debug)]
pub struct Batches {
    workers: Vec<Worker>,
    /// The worker whose turn it is.
    turn: usize,
    steps: Range<u64>,
    current: Batch,
    used: Sender<Batch>,
    waited: Duration,
}

#[derive(Debug)]
struct Worker {
    ready: Receiver<Batch>,
    /// `None` once it has been joined.
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// Starts `workers` threads (at least one) that make the batches of the global `steps`.
    ///
    /// # Errors
    ///
    /// [`DataError::Spawn`] if the system allows no more threads.
    pub fn start(
        source: Arc<BatchSource>,
        steps: Range<u64>,
        workers: usize,
    ) -> Result<Batches, DataError> {
        let workers = workers.max(1);
        let (used, reusable) = bounded(workers * (QUEUE_LEN + 1) + 1);
        let mut batches = Batches {
            workers: Vec::new(),
            turn: 0,
            steps: steps.clone(),
            current: Batch::default(),
            used,
            waited: Duration::ZERO,
        };
        for worker in 0..workers {
            let own_steps = steps.clone().skip(worker).step_by(workers);
            let (source, reusable) = (Arc::clone(&source), reusable.clone());
            let (sender, ready) = bounded(QUEUE_LEN);
            let thread = thread::Builder::new()
                .name(format!("batches-{worker}"))
                .spawn(move || make_batches(&source, own_steps, &reusable, &sender))
                .map_err(DataError::Spawn)?;
            batches.workers.push(Worker {
                ready,
                thread: Some(thread),
            });
        }
        Ok(batches)
    }

    /// The number of threads for training: half of the cores, to leave the other half to the device's
    /// runtime, but no more than the fastest device needs: one thread makes more than 200,000 images per
    /// second (docs/performance.md).
    pub fn default_workers() -> usize {
        const ENOUGH: usize = 16;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        cores.div_ceil(2).min(ENOUGH)
    }

    /// The batch of the next step, or `None` after the last one. The next call reuses its memory.
    ///
    /// # Errors
    ///
    /// [`DataError::Worker`] if the worker for the batch panicked.
    pub fn next_batch(&mut self) -> Result<Option<&Batch>, DataError> {
        let Some(step) = self.steps.next() else {
            return Ok(None);
        };
        // If the channel is full, there are enough spare batches.
        let _ = self.used.try_send(mem::take(&mut self.current));

        let worker = &mut self.workers[self.turn];
        let asked = Instant::now();
        let received = worker.ready.recv();
        self.waited += asked.elapsed();
        self.current = received.map_err(|_| worker.failure(step))?;
        self.turn = (self.turn + 1) % self.workers.len();
        Ok(Some(&self.current))
    }

    /// The total time that `next_batch` has waited for workers so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Batches {
    /// Stops the workers: each ends when it cannot send its current batch.
    fn drop(&mut self) {
        let threads: Vec<_> = self
            .workers
            .drain(..)
            .filter_map(|worker| worker.thread)
            .collect();
        for thread in threads {
            // Nobody waits for this worker any more, so a panic in it is ignored.
            let _ = thread.join();
        }
    }
}

impl Worker {
    /// Why this worker's channel closed before the batch for `step` arrived.
    fn failure(&mut self, step: u64) -> DataError {
        let panic = self.thread.take().and_then(|thread| thread.join().err());
        DataError::Worker {
            step,
            message: panic
                .as_deref()
                .map_or("it has ended", panic_message)
                .to_string(),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    literal.or(formatted).unwrap_or("no message")
}

/// The work of a worker thread, until the consumer is gone.
fn make_batches(
    source: &BatchSource,
    steps: impl Iterator<Item = u64>,
    reusable: &Receiver<Batch>,
    ready: &Sender<Batch>,
) {
    for step in steps {
        let mut batch = reusable.try_recv().unwrap_or_default();
        source.fill(step, &mut batch);
        if ready.send(batch).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;
    use crate::data::test_split::{PLAIN, numbered};
    use crate::data::{Augment, Split, TrainingOptions};

    fn source() -> Arc<BatchSource> {
        let options = TrainingOptions {
            augment: Augment::Keras,
            cutout: 0,
            mix: None,
            seed: 1,
            batch_size: 4,
            shuffle: true,
            steps_per_epoch: None,
        };
        Arc::new(BatchSource::training(numbered(22), PLAIN, options))
    }

    fn collect(steps: Range<u64>, workers: usize) -> Vec<Batch> {
        let mut batches = Batches::start(source(), steps, workers).unwrap();
        let mut collected = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            collected.push(batch.clone());
        }
        collected
    }

    #[test]
    fn one_two_and_five_workers_make_the_same_batches() {
        let source = source();
        let expected: Vec<Batch> = (0..17)
            .map(|step| {
                let mut batch = Batch::default();
                source.fill(step, &mut batch);
                batch
            })
            .collect();
        for workers in [1, 2, 5] {
            assert_eq!(collect(0..17, workers), expected, "{workers} workers");
        }
    }

    #[test]
    fn a_start_in_the_middle_goes_on_as_a_run_from_the_beginning() {
        assert_eq!(collect(7..17, 3), collect(0..17, 2)[7..]);
    }

    #[test]
    fn fewer_steps_than_workers_and_no_workers_at_all_are_fine() {
        assert_eq!(collect(3..5, 4).len(), 2);
        assert_eq!(collect(3..3, 4).len(), 0);
        assert_eq!(collect(3..5, 0).len(), 2);
    }

    #[test]
    fn a_panic_in_a_worker_becomes_an_error_that_names_the_step() {
        // Four labels but only two images, so the second batch of two cannot be made.
        let images = Array4::zeros((2, 32, 32, 3)).into();
        let labels = vec![0; 4].into();
        let split = Arc::new(Split { images, labels });
        let source = Arc::new(BatchSource::evaluation(split, PLAIN, 2));

        let mut batches = Batches::start(source, 0..2, 2).unwrap();
        assert_eq!(batches.next_batch().unwrap().unwrap().count, 2);
        assert_eq!(
            batches.next_batch().unwrap_err().to_string(),
            "the batch worker for step 1 panicked: \
             range end index 3072 out of range for slice of length 0"
        );
    }

    #[test]
    fn dropping_the_batches_midway_ends_the_workers() {
        let source = source();
        let mut batches = Batches::start(Arc::clone(&source), 0..u64::MAX, 3).unwrap();
        batches.next_batch().unwrap();
        drop(batches);
        assert_eq!(Arc::strong_count(&source), 1);
    }
}
