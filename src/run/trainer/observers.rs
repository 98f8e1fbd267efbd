//! What the observers of a run are told, and when.

use anyhow::{Context, Result};

use super::Trainer;
use super::timing::Timing;
use crate::model::program::State;
use crate::run::evaluate::Evaluation;
use crate::run::observer::{EpochEnd, LogPoint, Observer, StepFigures};
use crate::run::stopwatch::Lap;

impl Trainer<'_> {
    /// Ends what the loop was doing, tells the observers of it, and begins `lap`. Returns what ended.
    pub(super) fn enter(&mut self, lap: Lap) -> Lap {
        let ended = self.watch.switch(lap);
        self.tell(|observer| observer.span(&ended));
        ended.lap
    }

    /// Calls `what` with every observer.
    pub(super) fn tell(&mut self, mut what: impl FnMut(&mut dyn Observer)) {
        for observer in &mut self.observers {
            what(observer.as_mut());
        }
    }

    /// Tells the observers of the steps so far.
    pub(super) fn show(&mut self, timing: &Timing) -> Result<()> {
        if timing.images == 0 {
            return Ok(());
        }
        let position = &self.info.position;
        let figures = StepFigures {
            loss: position.mean.loss(),
            acc: position.mean.accuracy(),
            images_per_sec: timing.images_per_sec(),
            input_wait_frac: timing.input_wait_frac(),
        };
        let done = position.step_in_epoch as usize;
        self.tell(|observer| observer.step(done, &figures));
        self.log_point(timing)
    }

    /// Tells the observers of the last steps, if the log has a point here.
    pub(super) fn log_point(&mut self, timing: &Timing) -> Result<()> {
        let Some((step, mean)) = self.log.take() else {
            return Ok(());
        };
        let point = LogPoint {
            step,
            loss: mean.loss(),
            acc: mean.accuracy(),
            lr: self.learning_rate(step - 1),
            images_per_sec: timing.images_per_sec(),
        };
        let lap = self.enter(Lap::Report);
        for observer in &mut self.observers {
            observer.log_point(&point)?;
        }
        self.enter(lap);
        Ok(())
    }

    /// Tells the observers of the epoch that has ended.
    pub(super) fn report(
        &mut self,
        state: &State,
        epochs: usize,
        evaluation: &Evaluation,
    ) -> Result<()> {
        if self.observers.is_empty() {
            return Ok(());
        }
        self.enter(Lap::Report);
        let wanted = |name: &str| self.observers.iter().any(|observer| observer.wants(name));
        let tensors = self.program.download_tensors(state, wanted)?;
        let records = self.history.records();
        let end = EpochEnd {
            step: self.info.position.step,
            epochs,
            record: records.last().context("the epoch has no record")?,
            records,
            best: self.history.best(),
            evaluation,
            tensors: &tensors,
        };
        for observer in &mut self.observers {
            observer.epoch_end(&end)?;
        }
        self.enter(Lap::BetweenSteps);
        Ok(())
    }
}
