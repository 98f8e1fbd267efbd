//! The host loop: batches in, steps on the device, records out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::config::Config;
use crate::data::{BatchSource, Batches};
use crate::model::metrics::{BatchMetrics, Mean};
use crate::model::program::{PendingMetrics, Program, State};
use crate::run::checkpoint::{CheckpointInfo, Position, Saver};
use crate::run::evaluate::{Evaluation, evaluate, evaluation_steps};
use crate::run::history::{EpochRecord, History};
use crate::run::progress::{Progress, StepView};
use crate::run::schedule::learning_rate;
use crate::show::reporter::{EpochEnd, Reporter};
use crate::system::signals::{Interrupted, Signal, Signals};

/// Steps in a row that may have a loss that is not finite before the run ends.
const NON_FINITE_LIMIT: u32 = 3;

/// The loss was not finite several times in a row.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss was not finite in {count} steps in a row, the last being step {step} of the run, in \
     epoch {epoch} (learning rate {learning_rate}); the weights are those before the first of them. \
     Try a lower --lr"
)]
pub struct NonFiniteLoss {
    pub count: u32,
    /// From 1.
    pub step: u64,
    /// From 1.
    pub epoch: usize,
    pub learning_rate: f64,
}

/// Everything a run needs besides its state.
pub struct Trainer<'a> {
    pub config: &'a Config,
    pub program: &'a Program<'a>,
    pub progress: Progress,
    pub reporter: Reporter<'a>,
    pub training: Arc<BatchSource>,
    pub validation: Arc<BatchSource>,
    pub history: History,
    /// What checkpoints say of the run; the position in it is where the run begins.
    pub info: CheckpointInfo,
    /// `None` only while a checkpoint is handed over.
    pub saver: Option<Saver>,
    pub signals: Signals,
    pub spent: Spent,
}

/// Where the time of this process went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    waiting: Duration,
    executing: Duration,
    between_steps: Duration,
    evaluating: Duration,
    saving: Duration,
    reporting: Duration,
}

/// What a finished run came to.
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
    /// The evaluation after the last epoch.
    #[serde(skip)]
    pub evaluation: Evaluation,
}

/// Where the time of this process went, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingSplit {
    /// Waiting for the next batch.
    pub input_s: f64,
    /// In the training step's executable, or waiting for its results.
    pub compute_s: f64,
    /// Between training steps: uploading batches, progress, signals. A device that works by itself has
    /// the step before to do meanwhile.
    pub between_steps_s: f64,
    pub evaluation_s: f64,
    /// Copying checkpoints off the device and waiting for the one before to be written.
    pub checkpoint_s: f64,
    /// Plots, events and report.
    pub report_s: f64,
}

impl From<Spent> for TimingSplit {
    fn from(spent: Spent) -> Self {
        Self {
            input_s: spent.waiting.as_secs_f64(),
            compute_s: spent.executing.as_secs_f64(),
            between_steps_s: spent.between_steps.as_secs_f64(),
            evaluation_s: spent.evaluating.as_secs_f64(),
            checkpoint_s: spent.saving.as_secs_f64(),
            report_s: spent.reporting.as_secs_f64(),
        }
    }
}

/// Where the time went, over an epoch or the whole process.
#[derive(Clone, Copy, Default)]
struct Timing {
    images: u64,
    training: Duration,
    waited: Duration,
}

impl Timing {
    fn images_per_sec(&self) -> f64 {
        self.images as f64 / self.seconds()
    }

    fn input_wait_frac(&self) -> f64 {
        self.waited.as_secs_f64() / self.seconds()
    }

    /// Above 0, also for an epoch that was resumed behind its last step.
    fn seconds(&self) -> f64 {
        self.training.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Trainer<'_> {
    /// Trains from `state` to the end of the last epoch, or to `max_steps`.
    pub fn run(mut self, mut state: State) -> Result<Outcome> {
        let per_epoch = self.training.steps_per_epoch();
        let total = total_steps(self.config, per_epoch);
        let epochs = total.div_ceil(per_epoch) as usize;
        let steps = self.position().step..total;
        let mut batches = Batches::start(
            Arc::clone(&self.training),
            steps,
            Batches::default_workers(),
        )?;
        let mut whole = Timing::default();
        let mut last_evaluation = Evaluation::default();
        self.signals.watch();
        // An epoch that was cut short, by max_steps or just before its evaluation, is taken up again.
        while self.position().step < total || self.position().step_in_epoch > 0 {
            let start = Instant::now();
            let epoch = self.position().epoch;
            let left_in_epoch = per_epoch - self.position().step_in_epoch;
            let steps = left_in_epoch.min(total - self.position().step);
            let shown = self.position().step_in_epoch + steps;
            self.progress.epoch_begin(epoch, epochs, shown as usize);
            let timing;
            (state, timing) = self.epoch(state, steps, &mut batches)?;
            whole.images += timing.images;
            whole.training += timing.training;
            whole.waited += timing.waited;
            let evaluation = self.validate(&state)?;
            if let Some(signal) = self.signals.received() {
                self.save(&state)?;
                return Err(self.interrupt(signal));
            }
            last_evaluation = evaluation.context("the evaluation ended early")?;
            self.finish_epoch(&timing, &last_evaluation.mean, start.elapsed())?;
            self.save(&state)?;
            self.report(&state, &last_evaluation)?;
            if self.position().step_in_epoch > 0 {
                break;
            }
        }
        // A run whose steps were all taken before has its result written now.
        if last_evaluation.logits.is_empty() {
            let evaluation = self.validate(&state)?;
            last_evaluation = evaluation.context("the evaluation ended early")?;
        }
        self.progress.finish();
        let outcome = self.outcome(&whole, last_evaluation)?;
        self.saver.map_or(Ok(()), Saver::finish)?;
        Ok(outcome)
    }

    fn position(&mut self) -> &mut Position {
        &mut self.info.position
    }

    /// Runs `steps` training steps. Metrics are read one step late, so that the device always has
    /// its next step before the host waits for the last, and before a checkpoint is taken.
    fn epoch(
        &mut self,
        mut state: State,
        steps: u64,
        batches: &mut Batches,
    ) -> Result<(State, Timing)> {
        let rate = self.learning_rate();
        let (start, waited_before) = (Instant::now(), batches.waited());
        let (saving_before, executing_before) = (self.spent.saving, self.spent.executing);
        let images_before = self.position().mean.count();
        let timing = |mean: &Mean, batches: &Batches| Timing {
            images: mean.count() - images_before,
            training: start.elapsed(),
            waited: batches.waited() - waited_before,
        };
        let mut pending: Option<PendingMetrics> = None;
        for _ in 0..steps {
            let batch = batches
                .next_batch()?
                .context("the input ended before the run did")?;
            let inputs = self.program.upload_batch(batch, rate)?;
            let called = Instant::now();
            let metrics;
            (state, metrics) = self.program.train_step(state, &inputs)?;
            self.spent.executing += called.elapsed();
            self.position().step += 1;
            self.position().step_in_epoch += 1;
            self.account(pending.replace(metrics))?;
            self.show(&timing(&self.info.position.mean, batches));
            let signal = self.signals.received();
            if signal.is_some() || self.checkpoint_due() {
                self.account(pending.take())?;
                self.save(&state)?;
            }
            if let Some(signal) = signal {
                return Err(self.interrupt(signal));
            }
        }
        self.account(pending)?;
        let timing = timing(&self.info.position.mean, batches);
        self.spent.waiting += timing.waited;
        let saving = self.spent.saving - saving_before;
        let executing = self.spent.executing - executing_before;
        let elsewhere = timing.waited + saving + executing;
        self.spent.between_steps += timing.training.saturating_sub(elsewhere);
        Ok((state, timing))
    }

    /// Adds a step's metrics, if there are any; ends the run when the loss stays not finite.
    fn account(&mut self, pending: Option<PendingMetrics>) -> Result<()> {
        let Some(pending) = pending else {
            return Ok(());
        };
        let asked = Instant::now();
        let metrics: BatchMetrics = pending.read()?;
        self.spent.executing += asked.elapsed();
        let learning_rate = self.learning_rate();
        let position = self.position();
        if metrics.is_finite() {
            position.non_finite_in_a_row = 0;
            position.mean.add(&metrics);
            return Ok(());
        }
        position.non_finite += 1;
        position.non_finite_in_a_row += 1;
        let epoch = position.epoch + 1;
        log::warn!("the loss of a step in epoch {epoch} is not finite; its update was left out");
        if position.non_finite_in_a_row < NON_FINITE_LIMIT {
            return Ok(());
        }
        Err(NonFiniteLoss {
            count: NON_FINITE_LIMIT,
            step: position.step,
            epoch,
            learning_rate,
        }
        .into())
    }

    fn show(&mut self, timing: &Timing) {
        let position = &self.info.position;
        if timing.images == 0 {
            return;
        }
        let view = StepView {
            loss: position.mean.loss(),
            acc: position.mean.accuracy(),
            images_per_sec: timing.images_per_sec(),
            input_wait_frac: timing.input_wait_frac(),
        };
        let done = position.step_in_epoch as usize;
        self.progress.step(done, &view);
    }

    /// Loss, accuracy and logits of the validation images; `None` when a signal came.
    fn validate(&mut self, state: &State) -> Result<Option<Evaluation>> {
        let start = Instant::now();
        let (program, progress, signals) = (self.program, &mut self.progress, &self.signals);
        let steps = evaluation_steps(&self.validation, self.config.eval_steps);
        let mut done = 0;
        progress.evaluation(done, steps as usize);
        let evaluation = evaluate(&self.validation, steps, |batch| {
            let result = program.eval_step_of_state(state, batch)?;
            done += 1;
            progress.evaluation(done, steps as usize);
            Ok(signals.received().is_none().then_some(result))
        });
        self.spent.evaluating += start.elapsed();
        evaluation
    }

    /// Records the epoch, shows it, and moves the position behind it if all its steps are done.
    fn finish_epoch(&mut self, timing: &Timing, validation: &Mean, took: Duration) -> Result<()> {
        let lr = self.learning_rate();
        let position = &self.info.position;
        let record = EpochRecord {
            epoch: position.epoch,
            loss: position.mean.loss(),
            acc: position.mean.accuracy(),
            val_loss: Some(validation.loss()),
            val_acc: Some(validation.accuracy()),
            lr,
            seconds: took.as_secs_f64(),
            images_per_sec: timing.images_per_sec(),
            input_wait_frac: timing.input_wait_frac(),
        };
        self.history.push(record.clone())?;
        self.progress.epoch_end(&record, self.history.best());
        if position.step_in_epoch == self.training.steps_per_epoch() {
            let position = self.position();
            position.epoch += 1;
            position.step_in_epoch = 0;
            position.mean = Mean::default();
        }
        Ok(())
    }

    /// Brings what people look at up to date.
    fn report(&mut self, state: &State, evaluation: &Evaluation) -> Result<()> {
        let start = Instant::now();
        let kernels = self.program.download_tensors(state, has_histogram)?;
        let result = self.reporter.epoch(&EpochEnd {
            step: self.info.position.step,
            records: self.history.records(),
            evaluation,
            kernels: &kernels,
        });
        self.spent.reporting += start.elapsed();
        result
    }

    fn learning_rate(&self) -> f64 {
        let epoch = self.info.position.epoch;
        learning_rate(epoch, self.config.lr, &self.config.lr_drops)
    }

    fn checkpoint_due(&self) -> bool {
        let step = self.info.position.step;
        let every = self.config.checkpoint_every;
        every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Copies the state off the device and has it written.
    fn save(&mut self, state: &State) -> Result<()> {
        let start = Instant::now();
        let saver = self.saver.take().context("there is no checkpoint thread")?;
        let state = self.program.download_state(state)?;
        self.saver = Some(saver.save(state, self.info.clone())?);
        self.spent.saving += start.elapsed();
        Ok(())
    }

    /// Waits for the checkpoint just taken; the error that ends the run.
    fn interrupt(&mut self, signal: Signal) -> anyhow::Error {
        self.progress.finish();
        if let Some(Err(error)) = self.saver.take().map(Saver::finish) {
            return error;
        }
        let step = self.info.position.step;
        Interrupted { signal, step }.into()
    }

    fn outcome(&self, whole: &Timing, evaluation: Evaluation) -> Result<Outcome> {
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
            timing: self.spent.into(),
            evaluation,
        })
    }
}

/// Steps of the whole run, with `per_epoch` steps an epoch.
pub fn total_steps(config: &Config, per_epoch: u64) -> u64 {
    let all = per_epoch.saturating_mul(config.epochs as u64);
    config.max_steps.map_or(all, |steps| steps.min(all))
}

/// The kernels whose values TensorBoard shows: the first, the last, and one of each stage.
fn has_histogram(name: &str) -> bool {
    ["conv_in/kernel", "dense/kernel"].contains(&name)
        || (name.starts_with("stage") && name.ends_with("/unit01/conv2/kernel"))
}
