//! What a step that may still be running gives.

use anyhow::{Context, Result};
use xla_graphs::model::metrics as slot;

use super::transfer::download_rows;
use crate::device::backend::DeviceArray;
use crate::model::metrics::BatchMetrics;

/// The metrics of a step that may still be running.
pub struct PendingMetrics {
    array: Box<dyn DeviceArray>,
}

impl PendingMetrics {
    /// Of all replicas' metrics, which are the same, the first one's.
    pub(super) fn of(replicas: Vec<Box<dyn DeviceArray>>) -> Result<Self> {
        let array = replicas.into_iter().next();
        Ok(Self {
            array: array.context("a step returned no metrics")?,
        })
    }

    /// Waits for the step and reads its metrics.
    pub fn read(&self) -> Result<BatchMetrics> {
        let values = self
            .array
            .to_f32()
            .context("reading the metrics of a step")?;
        let vector: [f32; slot::LEN] = values.try_into().map_err(|got: Vec<f32>| {
            anyhow::anyhow!("metrics: expected {} values, got {}", slot::LEN, got.len())
        })?;
        Ok(BatchMetrics::from_vector(&vector))
    }
}

/// What an evaluation step that may still be running gives.
pub struct PendingEvaluation {
    pub(super) metrics: PendingMetrics,
    /// The rows of each replica of this process.
    pub(super) logits: Vec<Box<dyn DeviceArray>>,
}

impl PendingEvaluation {
    /// Waits for the step and reads the metrics of the batch of all processes, and the logits `[N, classes]` of this
    /// one's rows, padding included.
    pub fn read(self) -> Result<(BatchMetrics, Vec<f32>)> {
        Ok((self.metrics.read()?, download_rows(&self.logits)?))
    }
}
