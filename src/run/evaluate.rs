//! Loss and accuracy on images that are not trained on.

use std::mem;
use std::sync::Arc;

use anyhow::Result;

use crate::data::{Batch, BatchSource, Batches};
use crate::model::metrics::Mean;
use crate::model::program::PendingEvaluation;

/// Threads that make evaluation batches. One is enough: all it does is normalise.
const WORKERS: usize = 1;

/// How many batches to score: `asked`, but no more than `source` has; by default all of them.
pub fn evaluation_steps(source: &BatchSource, asked: Option<u64>) -> u64 {
    let all = source.steps_per_epoch();
    asked.map_or(all, |steps| steps.min(all))
}

/// How a network does on the first images of a split.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    pub mean: Mean,
    /// `[N, classes]`, in the order of the images.
    pub logits: Vec<f32>,
}

/// Evaluates the first `steps` batches of `source`, each of which `start` starts. `join` gets the logits of this
/// process's rows of a batch and returns those of all. What a batch gives is read when the next one is on its way, so that
/// a device that works on its own does not wait for the host. Returns `None` as soon as `join` does.
pub fn evaluate(
    source: &Arc<BatchSource>,
    steps: u64,
    mut start: impl FnMut(&Batch) -> Result<PendingEvaluation>,
    mut join: impl FnMut(Vec<f32>) -> Result<Option<Vec<f32>>>,
) -> Result<Option<Evaluation>> {
    let mut batches = Batches::start(Arc::clone(source), 0..steps, WORKERS)?;
    let mut evaluation = Evaluation::default();
    let mut pending: Option<(PendingEvaluation, usize)> = None;
    loop {
        let next = match batches.next_batch()? {
            Some(batch) => Some((start(batch)?, batch.count)),
            None => None,
        };
        let is_last = next.is_none();
        if let Some((started, images)) = mem::replace(&mut pending, next) {
            let (metrics, rows) = started.read()?;
            let Some(rows) = join(rows)? else {
                return Ok(None);
            };
            evaluation.mean.add(&metrics);
            // Padding rows come after the images.
            let classes = rows.len() / source.batch_size();
            evaluation
                .logits
                .extend_from_slice(&rows[..images * classes]);
        }
        if is_last {
            return Ok(Some(evaluation));
        }
    }
}
