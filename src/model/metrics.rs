//! Loss and accuracy: of one batch as the device reports them, and over many batches.

use serde::{Deserialize, Serialize};
use xla_graphs::model::metrics as slot;

/// The sums that one training or evaluation step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchMetrics {
    /// Sum of the images' cross-entropies, in nats.
    pub cross_entropy_sum: f64,
    /// Images classified correctly.
    pub correct: f64,
    /// Images counted; padding is not.
    pub count: f64,
    /// L2 penalty of the weights that the step was given.
    pub penalty: f64,
}

impl BatchMetrics {
    /// From the device's metrics vector.
    pub fn from_vector(vector: &[f32; slot::LEN]) -> Self {
        Self {
            cross_entropy_sum: vector[slot::CROSS_ENTROPY_SUM].into(),
            correct: vector[slot::CORRECT].into(),
            count: vector[slot::COUNT].into(),
            penalty: vector[slot::PENALTY].into(),
        }
    }

    /// Mean cross-entropy plus L2 penalty: the loss that Keras prints.
    pub fn loss(&self) -> f64 {
        self.cross_entropy_sum / self.count + self.penalty
    }

    /// Whether the loss is a finite number; if not, the step left the weights as they were.
    pub fn is_finite(&self) -> bool {
        self.loss().is_finite()
    }
}

/// Mean loss and accuracy over the images of several batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    loss_sum: f64,
    correct: f64,
    count: f64,
}

impl Mean {
    /// Adds a batch.
    pub fn add(&mut self, batch: &BatchMetrics) {
        self.loss_sum += batch.loss() * batch.count;
        self.correct += batch.correct;
        self.count += batch.count;
    }

    /// Mean loss over the images added, L2 penalty included; NaN before the first.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count
    }

    /// Share of the images classified correctly; NaN before the first.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.count
    }

    /// Images added.
    pub fn count(&self) -> u64 {
        self.count as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_weighs_batches_by_their_images() {
        let batch = |cross_entropy_sum, correct, count| BatchMetrics {
            cross_entropy_sum,
            correct,
            count,
            penalty: 0.5,
        };
        let mut mean = Mean::default();
        mean.add(&batch(6.0, 2.0, 3.0));
        mean.add(&batch(4.0, 0.0, 1.0));
        // (6 + 4) / 4 images + 0.5, and 2 of 4.
        assert_eq!((mean.loss(), mean.accuracy(), mean.count()), (3.0, 0.5, 4));
    }
}
