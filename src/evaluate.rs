//! Loss and accuracy on test images.

use std::sync::Arc;

use anyhow::Result;

use crate::data::{Batch, BatchSource, Batches};
use crate::metrics::{BatchMetrics, Mean};

/// Threads that make evaluation batches: they only normalise.
const WORKERS: usize = 1;

/// How many batches to score: `asked`, or all that `source` has if that is fewer or nothing was
/// asked.
pub fn evaluation_steps(source: &BatchSource, asked: Option<u64>) -> u64 {
    let all = source.steps_per_epoch();
    asked.map_or(all, |steps| steps.min(all))
}

/// Runs `step` on the first `steps` batches of `source` and averages. When `step` gives `None`, the
/// evaluation ends there, and so does this.
pub fn evaluate(
    source: &Arc<BatchSource>,
    steps: u64,
    mut step: impl FnMut(&Batch) -> Result<Option<BatchMetrics>>,
) -> Result<Option<Mean>> {
    let mut batches = Batches::start(Arc::clone(source), 0..steps, WORKERS)?;
    let mut mean = Mean::default();
    while let Some(batch) = batches.next_batch()? {
        match step(batch)? {
            Some(metrics) => mean.add(&metrics),
            None => return Ok(None),
        }
    }
    Ok(Some(mean))
}
