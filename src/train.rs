//! The host loop: batches in, steps on the device, records out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::data::{BatchSource, Batches};
use crate::evaluate::{Evaluation, evaluate, evaluation_steps};
use crate::history::{EpochRecord, History};
use crate::metrics::{BatchMetrics, Mean};
use crate::program::{PendingMetrics, Program, State};
use crate::progress::{Progress, StepView};
use crate::reporter::{EpochEnd, Reporter};
use crate::run_dir::RunDir;
use crate::schedule::learning_rate;

/// Steps in a row that may have a loss that is not finite before the run ends.
const NON_FINITE_LIMIT: u32 = 3;

/// The loss was not finite several times in a row.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss was not finite in {count} steps in a row, the last being step {step} of epoch {epoch} \
     (learning rate {learning_rate}); the weights are those before the first of them. \
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
    pub run_dir: &'a RunDir,
    pub program: &'a Program<'a>,
    pub progress: Progress,
    pub reporter: Reporter<'a>,
    pub training: Arc<BatchSource>,
    pub validation: Arc<BatchSource>,
    /// What checkpoints say of the run; step and epoch are filled in.
    pub info: CheckpointInfo,
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
    /// Training images per second over the whole run, evaluation left out.
    pub images_per_sec: f64,
    /// Share of the training time spent waiting for a batch.
    pub input_wait_frac: f64,
    /// Steps whose loss was not finite, and which changed nothing.
    pub non_finite_steps: u64,
    pub timing: Timing,
    /// The evaluation after the last epoch.
    #[serde(skip)]
    pub evaluation: Evaluation,
}

/// Where the time of a run went, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// Waiting for the next batch.
    pub input_s: f64,
    /// Training steps.
    pub compute_s: f64,
    pub evaluation_s: f64,
    pub checkpoint_s: f64,
    /// Plots, events and report.
    pub report_s: f64,
}

/// Sums over the run so far.
#[derive(Default)]
struct Totals {
    steps: u64,
    images: u64,
    training: Duration,
    waited: Duration,
    evaluating: Duration,
    saving: Duration,
    reporting: Duration,
    non_finite: u64,
    non_finite_in_a_row: u32,
}

/// One epoch's training part.
struct EpochResult {
    mean: Mean,
    training: Duration,
    waited: Duration,
}

impl Trainer<'_> {
    /// Trains from `state` to the end of the last epoch, or to `max_steps`.
    pub fn run(&mut self, mut state: State) -> Result<Outcome> {
        let per_epoch = self.training.steps_per_epoch();
        let all = per_epoch.saturating_mul(self.config.epochs as u64);
        let total = self.config.max_steps.map_or(all, |steps| steps.min(all));
        let epochs = total.div_ceil(per_epoch) as usize;
        let mut history = History::create(&self.run_dir.history())?;
        let mut batches = Batches::start(Arc::clone(&self.training), 0..total, workers())?;
        let mut totals = Totals::default();
        let mut evaluation = Evaluation::default();
        for epoch in 0..epochs {
            let start = Instant::now();
            let steps = per_epoch.min(total - totals.steps);
            self.progress.epoch_begin(epoch, epochs, steps as usize);
            let result;
            (state, result) = self.epoch(state, epoch, steps, &mut batches, &mut totals)?;
            evaluation = timed(&mut totals.evaluating, || self.validate(&state))?;
            history.push(self.record(epoch, &result, &evaluation.mean, start.elapsed()))?;
            self.after_epoch(&state, epoch, &history, &evaluation, &mut totals)?;
        }
        self.progress.finish();
        outcome(&history, &totals, evaluation)
    }

    /// Runs `steps` training steps. Metrics are read one step late, so that the device always has
    /// its next step before the host waits for the last.
    fn epoch(
        &mut self,
        mut state: State,
        epoch: usize,
        steps: u64,
        batches: &mut Batches,
        totals: &mut Totals,
    ) -> Result<(State, EpochResult)> {
        let rate = learning_rate(epoch, self.config.lr, &self.config.lr_drops);
        let (start, waited_before) = (Instant::now(), batches.waited());
        let saving_before = totals.saving;
        let mut mean = Mean::default();
        let mut pending: Option<PendingMetrics> = None;
        for step in 0..steps {
            let batch = batches
                .next_batch()?
                .context("the input ended before the run did")?;
            let metrics;
            (state, metrics) = self.program.train_step(state, batch, rate)?;
            totals.steps += 1;
            if let Some(late) = pending.replace(metrics) {
                self.account(&late.read()?, epoch, rate, &mut mean, totals)?;
            }
            let waited = batches.waited() - waited_before;
            self.show(step + 1, &mean, start.elapsed(), waited);
            if self.checkpoint_due(totals.steps) {
                if let Some(late) = pending.take() {
                    self.account(&late.read()?, epoch, rate, &mut mean, totals)?;
                }
                self.save(&state, epoch, totals)?;
            }
        }
        if let Some(late) = pending {
            self.account(&late.read()?, epoch, rate, &mut mean, totals)?;
        }
        let result = EpochResult {
            mean,
            training: start.elapsed() - (totals.saving - saving_before),
            waited: batches.waited() - waited_before,
        };
        totals.images += mean.count();
        totals.training += result.training;
        totals.waited += result.waited;
        Ok((state, result))
    }

    fn validate(&mut self, state: &State) -> Result<Evaluation> {
        let (program, progress) = (self.program, &mut self.progress);
        let steps = evaluation_steps(&self.validation, self.config.eval_steps);
        let mut done = 0;
        progress.evaluation(done, steps as usize);
        evaluate(&self.validation, steps, |batch| {
            let result = program.eval_step_of_state(state, batch)?;
            done += 1;
            progress.evaluation(done, steps as usize);
            Ok(result)
        })
    }

    /// Adds a step's metrics; ends the run when the loss stays not finite.
    fn account(
        &self,
        metrics: &BatchMetrics,
        epoch: usize,
        learning_rate: f64,
        mean: &mut Mean,
        totals: &mut Totals,
    ) -> Result<()> {
        if metrics.is_finite() {
            totals.non_finite_in_a_row = 0;
            mean.add(metrics);
            return Ok(());
        }
        totals.non_finite += 1;
        totals.non_finite_in_a_row += 1;
        log::warn!(
            "the loss of a step in epoch {} is not finite; its update was left out",
            epoch + 1
        );
        if totals.non_finite_in_a_row == NON_FINITE_LIMIT {
            return Err(NonFiniteLoss {
                count: NON_FINITE_LIMIT,
                step: totals.steps,
                epoch: epoch + 1,
                learning_rate,
            }
            .into());
        }
        Ok(())
    }

    fn show(&mut self, done: u64, mean: &Mean, elapsed: Duration, waited: Duration) {
        if mean.count() == 0 {
            return;
        }
        let view = StepView {
            loss: mean.loss(),
            acc: mean.accuracy(),
            images_per_sec: mean.count() as f64 / elapsed.as_secs_f64(),
            input_wait_frac: waited.as_secs_f64() / elapsed.as_secs_f64(),
        };
        self.progress.step(done as usize, &view);
    }

    fn record(
        &self,
        epoch: usize,
        result: &EpochResult,
        validation: &Mean,
        elapsed: Duration,
    ) -> EpochRecord {
        let training = result.training.as_secs_f64();
        EpochRecord {
            epoch,
            loss: result.mean.loss(),
            acc: result.mean.accuracy(),
            val_loss: Some(validation.loss()),
            val_acc: Some(validation.accuracy()),
            lr: learning_rate(epoch, self.config.lr, &self.config.lr_drops),
            seconds: elapsed.as_secs_f64(),
            images_per_sec: result.mean.count() as f64 / training,
            input_wait_frac: result.waited.as_secs_f64() / training,
        }
    }

    /// Shows the epoch, saves the weights and brings the run's report up to date.
    fn after_epoch(
        &mut self,
        state: &State,
        epoch: usize,
        history: &History,
        evaluation: &Evaluation,
        totals: &mut Totals,
    ) -> Result<()> {
        let records = history.records();
        if let Some(record) = records.last() {
            self.progress.epoch_end(record, history.best());
        }
        self.save(state, epoch + 1, totals)?;
        let kernels = self.program.download_tensors(state, has_histogram)?;
        timed(&mut totals.reporting, || {
            self.reporter.epoch(&EpochEnd {
                step: totals.steps,
                records,
                evaluation,
                kernels: &kernels,
            })
        })
    }

    fn checkpoint_due(&self, step: u64) -> bool {
        self.config
            .checkpoint_every
            .is_some_and(|every| step.is_multiple_of(every))
    }

    fn save(&self, state: &State, epoch: usize, totals: &mut Totals) -> Result<()> {
        let step = totals.steps;
        timed(&mut totals.saving, || self.save_step(state, step, epoch))
    }

    fn save_step(&self, state: &State, step: u64, epoch: usize) -> Result<()> {
        let info = CheckpointInfo {
            step,
            epoch,
            ..self.info.clone()
        };
        let folder = self.run_dir.checkpoints();
        let path = folder.join(checkpoint::file_name(step));
        let state = self.program.download_state(state)?;
        checkpoint::save(&path, self.program.layout(), &state, &info)?;
        checkpoint::prune(&folder, self.config.keep)?;
        log::debug!("saved {}", path.display());
        Ok(())
    }
}

/// Threads that make training batches.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// The kernels whose values TensorBoard shows: the first, the last, and one of each stage.
fn has_histogram(name: &str) -> bool {
    ["conv_in/kernel", "dense/kernel"].contains(&name)
        || (name.starts_with("stage") && name.ends_with("/unit01/conv2/kernel"))
}

/// Runs `work` and adds the time it takes to `total`.
fn timed<T>(total: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed();
    result
}

fn outcome(history: &History, totals: &Totals, evaluation: Evaluation) -> Result<Outcome> {
    let last = history.records().last().context("the run has no epoch")?;
    let training = totals.training.as_secs_f64();
    Ok(Outcome {
        loss: last.loss,
        acc: last.acc,
        val_loss: last.val_loss.unwrap_or(f64::NAN),
        val_acc: last.val_acc.unwrap_or(f64::NAN),
        epochs: history.records().len(),
        steps: totals.steps,
        images_per_sec: totals.images as f64 / training,
        input_wait_frac: totals.waited.as_secs_f64() / training,
        non_finite_steps: totals.non_finite,
        timing: Timing {
            input_s: totals.waited.as_secs_f64(),
            compute_s: training - totals.waited.as_secs_f64(),
            evaluation_s: totals.evaluating.as_secs_f64(),
            checkpoint_s: totals.saving.as_secs_f64(),
            report_s: totals.reporting.as_secs_f64(),
        },
        evaluation,
    })
}
