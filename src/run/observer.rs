//! How the loop reports to whatever shows a run.

use anyhow::Result;

use crate::run::evaluate::Evaluation;
use crate::run::history::{Best, EpochRecord};
use crate::run::stopwatch::Span;

/// Watches a run. Each way of showing a run is one implementation, in `show/`. The loop knows none of
/// them.
pub trait Observer {
    /// Epoch `epoch` (from 0) of `epochs` begins; it has `steps` training steps.
    fn epoch_begin(&mut self, _epoch: usize, _epochs: usize, _steps: usize) {}

    /// The loop has done something. Each span begins where the one before ended, and each training step begins with a
    /// [`Lap::Input`](crate::run::stopwatch::Lap::Input).
    fn span(&mut self, _span: &Span) {}

    /// `done` training steps of the epoch are done.
    fn step(&mut self, _done: usize, _figures: &StepFigures) {}

    /// The run's log has a point, as every so many steps.
    ///
    /// # Errors
    /// Why the observer cannot show it. An error ends the run.
    fn log_point(&mut self, _point: &LogPoint) -> Result<()> {
        Ok(())
    }

    /// `done` of the epoch's `steps` evaluation steps are done; 0 begins the evaluation.
    fn evaluation(&mut self, _done: usize, _steps: usize) {}

    /// Whether [`EpochEnd::tensors`] should include the tensor `name`.
    fn wants(&self, _name: &str) -> bool {
        false
    }

    /// The epoch is over: evaluated, and handed to the checkpoint thread.
    ///
    /// # Errors
    /// Why the observer cannot show it. An error ends the run.
    fn epoch_end(&mut self, _end: &EpochEnd) -> Result<()> {
        Ok(())
    }

    /// The run goes no further.
    fn finish(&mut self) {}
}

/// The figures of the current epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepFigures {
    pub loss: f64,
    /// Fraction of one.
    pub acc: f64,
    pub images_per_sec: f64,
    /// Fraction of one.
    pub input_wait_frac: f64,
}

/// What the log says of the steps since its last point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogPoint {
    /// Training steps of the run so far.
    pub step: u64,
    /// Means over those steps since the last point whose loss was finite; the accuracy is a fraction of one.
    pub loss: f64,
    pub acc: f64,
    /// Of the last step.
    pub lr: f64,
    /// Since the epoch began, or the run went on.
    pub images_per_sec: f64,
}

/// Where training stands after an epoch.
pub struct EpochEnd<'a> {
    /// Training steps so far.
    pub step: u64,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// The epoch that has ended.
    pub record: &'a EpochRecord,
    /// All epochs so far, this one last.
    pub records: &'a [EpochRecord],
    /// The best epoch so far.
    pub best: Option<Best>,
    pub evaluation: &'a Evaluation,
    /// The tensors that an observer [`wants`](Observer::wants), by name.
    pub tensors: &'a [(String, Vec<f32>)],
}
