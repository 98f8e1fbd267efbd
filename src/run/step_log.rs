//! The mean loss and accuracy of the steps between two points of a run's log.

use crate::model::metrics::{BatchMetrics, Mean};

/// Sums up steps until the next point, which is every so many steps of the whole run.
#[derive(Clone, Debug)]
pub struct StepLog {
    every: u64,
    /// Steps of the run whose metrics are known.
    step: u64,
    mean: Mean,
}

impl StepLog {
    /// A log with a point every `steps` steps.
    pub fn every(steps: u64) -> Self {
        Self {
            every: steps,
            step: 0,
            mean: Mean::default(),
        }
    }

    /// The run stands at `step`.
    pub fn begin(&mut self, step: u64) {
        self.step = step;
        self.mean = Mean::default();
    }

    /// Another step is done. One whose loss is not finite changed nothing, and is left out of the mean.
    pub fn add(&mut self, metrics: &BatchMetrics) {
        self.step += 1;
        if metrics.is_finite() {
            self.mean.add(metrics);
        }
    }

    /// Steps of the run whose metrics are known.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The number of the last step and the mean since the last point, if that step is a point that was not taken yet.
    pub fn take(&mut self) -> Option<(u64, Mean)> {
        let due = self.step.is_multiple_of(self.every) && self.mean.count() > 0;
        due.then(|| (self.step, std::mem::take(&mut self.mean)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(loss: f64) -> BatchMetrics {
        BatchMetrics {
            cross_entropy_sum: 4.0 * loss,
            correct: 1.0,
            count: 4.0,
            penalty: 0.0,
        }
    }

    /// The points of a run that goes on at `step` with these losses.
    fn points(step: u64, losses: &[f64]) -> Vec<(u64, f64)> {
        let mut log = StepLog::every(3);
        log.begin(step);
        let mut points = Vec::new();
        for loss in losses {
            log.add(&metrics(*loss));
            points.extend(log.take().map(|(step, mean)| (step, mean.loss())));
            assert_eq!(log.take(), None);
        }
        points
    }

    #[test]
    fn a_point_is_the_mean_of_the_steps_since_the_last_one() {
        let losses = [1.0, 2.0, 3.0, 5.0, 5.0, 8.0, 9.0];
        assert_eq!(points(0, &losses), [(3, 2.0), (6, 6.0)]);
        // Points are those of the whole run.
        assert_eq!(
            points(2, &losses),
            [(3, 1.0), (6, 10.0 / 3.0), (9, 22.0 / 3.0)]
        );
    }

    #[test]
    fn a_step_that_changed_nothing_is_left_out() {
        assert_eq!(points(0, &[1.0, f64::NAN, 2.0]), [(3, 1.5)]);
        assert_eq!(points(0, &[f64::NAN; 4]), []);
    }
}
