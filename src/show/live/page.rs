//! The report of a run in progress.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::data::{DatasetSpec, Validation};
use crate::run::evaluate::Evaluation;
use crate::run::observer::{EpochEnd, LogPoint, Observer, StepFigures};
use crate::run::run_dir::RunDir;
use crate::show::report::{self, ReportError, Running, Scored};

/// Writing the page takes time that the run does not have for it more often.
const BETWEEN_WRITES: Duration = Duration::from_secs(10);

/// Rewrites the page after each epoch, and in it as often as a browser loads it again.
pub struct Page<'a> {
    run_dir: &'a RunDir,
    spec: &'a DatasetSpec,
    validation: &'a Validation,
    running: Running,
    /// What the last evaluation says; nothing before the first.
    scored: Scored,
    written: Option<Instant>,
}

impl<'a> Page<'a> {
    /// The page of the run in `run_dir`, on images of `spec`.
    pub fn new(run_dir: &'a RunDir, spec: &'a DatasetSpec, validation: &'a Validation) -> Self {
        Self {
            run_dir,
            spec,
            validation,
            running: Running::default(),
            scored: Scored::of(&Evaluation::default(), spec, validation),
            written: None,
        }
    }

    fn write(&mut self, running: Option<&Running>) -> Result<(), ReportError> {
        self.written = Some(Instant::now());
        let path = self.run_dir.report();
        report::write(
            &path,
            self.run_dir,
            &self.scored,
            self.spec,
            self.validation,
            running,
        )
    }
}

impl Observer for Page<'_> {
    fn epoch_begin(&mut self, epoch: usize, epochs: usize, steps: usize) {
        self.running = Running {
            epoch: epoch + 1,
            epochs,
            steps,
            ..Running::default()
        };
    }

    fn step(&mut self, done: usize, figures: &StepFigures) {
        self.running.done = done;
        self.running.figures = Some(*figures);
    }

    fn log_point(&mut self, _point: &LogPoint) -> Result<()> {
        let is_fresh = |written: Instant| written.elapsed() < BETWEEN_WRITES;
        if !self.written.is_some_and(is_fresh) {
            let running = self.running.clone();
            self.write(Some(&running))?;
        }
        Ok(())
    }

    fn epoch_end(&mut self, end: &EpochEnd) -> Result<()> {
        self.scored = Scored::of(end.evaluation, self.spec, self.validation);
        let running = self.running.clone();
        Ok(self.write(Some(&running))?)
    }

    fn finish(&mut self) {
        // Whatever ends the run is more important than this.
        if self.written.is_some()
            && let Err(error) = self.write(None)
        {
            log::warn!("the report is not up to date: {error}");
        }
    }
}
