//! The result of a finished run.

use anyhow::{Context, Result};
use serde::Serialize;

use super::Trainer;
use super::timing::{StepCollectives, Timing};
use crate::run::evaluate::Evaluation;
use crate::run::stopwatch::{Span, TimingSplit};

/// The result of a finished run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub loss: f64,
    pub acc: f64,
    pub val_loss: f64,
    pub val_acc: f64,
    /// Epochs begun.
    pub epochs: usize,
    pub steps: u64,
    /// Training images per second in this process, evaluation left out.
    pub images_per_sec: f64,
    /// Share of the training time spent waiting for a batch.
    pub input_wait_frac: f64,
    /// Steps whose loss was not finite, and which changed nothing.
    pub non_finite_steps: u64,
    pub timing: TimingSplit,
    /// In the last epoch; absent where this process is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collectives: Option<StepCollectives>,
    /// When this process called the executable of its first step, and when that call returned.
    #[serde(skip)]
    pub first_step: Option<Span>,
    /// The evaluation after the last epoch.
    #[serde(skip)]
    pub evaluation: Evaluation,
}

impl Trainer<'_> {
    pub(super) fn outcome(&self, whole: &Timing, evaluation: Evaluation) -> Result<Outcome> {
        let records = self.history.records();
        let last = records.last().context("the run has no epoch")?;
        Ok(Outcome {
            loss: last.loss,
            acc: last.acc,
            val_loss: last.val_loss.unwrap_or(f64::NAN),
            val_acc: last.val_acc.unwrap_or(f64::NAN),
            epochs: self.history.epochs(),
            steps: self.info.position.step,
            images_per_sec: whole.images_per_sec(),
            input_wait_frac: whole.input_wait_frac(),
            non_finite_steps: self.info.position.non_finite,
            timing: (&self.watch).into(),
            collectives: whole.collectives,
            first_step: self.watch.first_step(),
            evaluation,
        })
    }
}
