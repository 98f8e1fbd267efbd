//! Loss and accuracy on images that are not trained on.

use std::sync::Arc;

use anyhow::Result;

use crate::data::{Batch, BatchSource, Batches};
use crate::model::metrics::{BatchMetrics, Mean};

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

/// Runs `step`, which returns metrics and logits of whole batches, on the first `steps` batches of `source`. Returns
/// `None` as soon as `step` does.
pub fn evaluate(
    source: &Arc<BatchSource>,
    steps: u64,
    mut step: impl FnMut(&Batch) -> Result<Option<(BatchMetrics, Vec<f32>)>>,
) -> Result<Option<Evaluation>> {
    let mut batches = Batches::start(Arc::clone(source), 0..steps, WORKERS)?;
    let mut evaluation = Evaluation::default();
    while let Some(batch) = batches.next_batch()? {
        let Some((metrics, rows)) = step(batch)? else {
            return Ok(None);
        };
        evaluation.mean.add(&metrics);
        // Padding rows come after the images.
        let classes = rows.len() / source.batch_size();
        let rows = &rows[..batch.count * classes];
        evaluation.logits.extend_from_slice(rows);
    }
    Ok(Some(evaluation))
}
