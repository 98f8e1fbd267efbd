//! The host loop: batches in, steps on the device, records out.

mod observers;
mod outcome;
mod timing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::data::{Batch, BatchSource, Batches};
use crate::model::metrics::{BatchMetrics, Mean};
use crate::model::peers::Peers;
use crate::model::program::{PendingMetrics, Program, State};
use crate::run::checkpoint::{CheckpointInfo, Position, Saver};
use crate::run::evaluate::{Evaluation, evaluate, evaluation_steps};
use crate::run::history::{EpochRecord, History};
use crate::run::observer::Observer;
use crate::run::schedule::{LearningRate, in_short};
use crate::run::step_log::StepLog;
use crate::run::stop::Stop;
use crate::run::stopwatch::{Lap, Stopwatch};
use crate::system::signals::{Interrupted, Signal};

use self::timing::Timing;

pub use self::outcome::Outcome;
pub use self::timing::StepCollectives;

/// How many steps in a row may have a non-finite loss before the run ends.
const NON_FINITE_LIMIT: u32 = 3;

/// The loss was not finite several times in a row.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss was not finite in {count} steps in a row, the last being step {step} of the run, in \
     epoch {epoch} (learning rate {}); the weights are those before the first of them. \
     Try a lower --lr", in_short(*.learning_rate)
)]
pub struct NonFiniteLoss {
    pub count: u32,
    /// From 1.
    pub step: u64,
    /// From 1.
    pub epoch: usize,
    pub learning_rate: f64,
}

/// The settings that the loop reads.
#[derive(Clone, Debug)]
pub struct TrainerSettings {
    pub epochs: usize,
    /// `None`: to the end of the last epoch.
    pub max_steps: Option<u64>,
    /// `None`: all validation images.
    pub eval_steps: Option<u64>,
    /// `None`: once an epoch.
    pub checkpoint_every: Option<u64>,
    pub learning_rate: LearningRate,
}

impl TrainerSettings {
    /// Steps to the end of the last epoch, with `per_epoch` steps an epoch. The schedule is laid out over these: a run
    /// that `max_steps` stops goes on later with the rates that it would have had.
    pub fn all_steps(&self, per_epoch: u64) -> u64 {
        per_epoch.saturating_mul(self.epochs as u64)
    }

    /// Steps until the run stops, which `max_steps` may have it do before the last epoch ends.
    pub fn steps_to_take(&self, per_epoch: u64) -> u64 {
        let all = self.all_steps(per_epoch);
        self.max_steps.map_or(all, |steps| steps.min(all))
    }
}

/// Everything a run needs besides its state.
pub struct Trainer<'a> {
    pub settings: TrainerSettings,
    pub program: &'a Program<'a>,
    pub training: Arc<BatchSource>,
    pub validation: Arc<BatchSource>,
    pub history: History,
    /// What checkpoints record about the run. Its position is where the run begins.
    pub info: CheckpointInfo,
    /// `None` in a process that writes nothing.
    pub saver: Option<Saver>,
    pub peers: &'a Peers<'a>,
    pub stop: Stop<'a>,
    /// Whatever shows the run, in the order in which it is told.
    pub observers: Vec<Box<dyn Observer + 'a>>,
    pub log: StepLog,
    pub watch: Stopwatch,
}

impl Trainer<'_> {
    /// Trains from `state` to the end of the last epoch, or to `max_steps`.
    pub fn run(mut self, state: State) -> Result<Outcome> {
        let (whole, evaluation) = self.train(state)?;
        self.outcome(&whole, evaluation)
    }

    /// [`Self::run`] in a process that keeps nothing of it.
    pub fn follow(mut self, state: State) -> Result<()> {
        self.train(state).map(drop)
    }

    fn train(&mut self, mut state: State) -> Result<(Timing, Evaluation)> {
        let per_epoch = self.training.steps_per_epoch();
        let total = self.settings.steps_to_take(per_epoch);
        let epochs = total.div_ceil(per_epoch) as usize;
        let steps = self.position().step..total;
        self.log.begin(steps.start);
        let mut batches = Batches::start(
            Arc::clone(&self.training),
            steps,
            Batches::default_workers(),
        )?;
        let mut whole = Timing::default();
        let mut last_evaluation = Evaluation::default();
        self.stop.watch();
        // An epoch that was cut short, by max_steps or just before its evaluation, goes on.
        while self.position().step < total || self.position().step_in_epoch > 0 {
            let start = Instant::now();
            let epoch = self.position().epoch;
            let left_in_epoch = per_epoch - self.position().step_in_epoch;
            let steps = left_in_epoch.min(total - self.position().step);
            let shown = self.position().step_in_epoch + steps;
            self.tell(|observer| observer.epoch_begin(epoch, epochs, shown as usize));
            let timing;
            let before = self.program.collectives();
            (state, timing) = self.epoch(state, steps, &mut batches)?;
            let after = self.program.collectives();
            if let (Some(before), Some(after), 1..) = (before, after, steps) {
                let training = timing.training;
                whole.collectives = Some(StepCollectives::of(before, after, steps, training));
            }
            whole.images += timing.images;
            whole.training += timing.training;
            whole.waited += timing.waited;
            let evaluation = self.validate(&state)?;
            if let Some(signal) = self.stop.asked()? {
                self.save(&state)?;
                return Err(self.interrupt(signal));
            }
            last_evaluation = evaluation.context("the evaluation ended early")?;
            self.finish_epoch(&timing, &last_evaluation.mean, start.elapsed())?;
            self.save(&state)?;
            self.report(&state, epochs, &last_evaluation)?;
            if self.position().step_in_epoch > 0 {
                break;
            }
        }
        // All steps were taken earlier; only the result is missing.
        if last_evaluation.logits.is_empty() {
            let evaluation = self.validate(&state)?;
            if let Some(signal) = self.stop.asked()? {
                return Err(self.interrupt(signal));
            }
            last_evaluation = evaluation.context("the evaluation ended early")?;
        }
        self.tell(|observer| observer.finish());
        self.finish_saving()?;
        self.enter(Lap::BetweenSteps);
        Ok((whole, last_evaluation))
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
        self.enter(Lap::BetweenSteps);
        let (start, waited_before) = (Instant::now(), self.watch.spent(Lap::Input));
        let images_before = self.position().mean.count();
        let timing = |trainer: &Self| Timing {
            images: trainer.info.position.mean.count() - images_before,
            training: start.elapsed(),
            waited: trainer.watch.spent(Lap::Input) - waited_before,
            collectives: None,
        };
        let mut pending: Option<PendingMetrics> = None;
        for _ in 0..steps {
            self.enter(Lap::Input);
            let batch = batches
                .next_batch()?
                .context("the input ended before the run did")?;
            self.enter(Lap::Upload);
            let rate = self.learning_rate(self.info.position.step);
            let inputs = self.program.upload_batch(batch, rate)?;
            self.enter(Lap::Execute);
            let metrics;
            (state, metrics) = self.program.train_step(state, &inputs)?;
            self.enter(Lap::BetweenSteps);
            self.position().step += 1;
            self.position().step_in_epoch += 1;
            self.account(pending.replace(metrics))?;
            self.show(&timing(self))?;
            let signal = self.stop.asked()?;
            if signal.is_some() || self.checkpoint_due() {
                self.account(pending.take())?;
                self.log_point(&timing(self))?;
                self.save(&state)?;
            }
            if let Some(signal) = signal {
                return Err(self.interrupt(signal));
            }
        }
        self.account(pending)?;
        self.log_point(&timing(self))?;
        Ok((state, timing(self)))
    }

    /// Adds a step's metrics, if there are any. Ends the run if the loss stays non-finite.
    fn account(&mut self, pending: Option<PendingMetrics>) -> Result<()> {
        let Some(pending) = pending else {
            return Ok(());
        };
        let lap = self.enter(Lap::ReadBack);
        let metrics: BatchMetrics = pending.read()?;
        self.enter(lap);
        self.log.add(&metrics);
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
        self.tell(|observer| observer.finish());
        // The position may be a step ahead.
        let step = self.log.step();
        Err(NonFiniteLoss {
            count: NON_FINITE_LIMIT,
            step,
            epoch,
            learning_rate: self.learning_rate(step - 1),
        }
        .into())
    }

    /// Loss, accuracy and logits of the validation images; `None` when a signal came.
    fn validate(&mut self, state: &State) -> Result<Option<Evaluation>> {
        self.enter(Lap::Evaluation);
        let steps = evaluation_steps(&self.validation, self.settings.eval_steps);
        let source = Arc::clone(&self.validation);
        let mut done = 0;
        self.tell(|observer| observer.evaluation(done, steps as usize));
        let program = self.program;
        let start = |batch: &Batch| program.eval_step_of_state(state, batch);
        let evaluation = evaluate(&source, steps, start, |rows| {
            let logits = self.peers.join(rows)?;
            done += 1;
            self.tell(|observer| observer.evaluation(done, steps as usize));
            Ok(self.stop.asked()?.is_none().then_some(logits))
        });
        self.enter(Lap::BetweenSteps);
        evaluation
    }

    /// Records the epoch, and moves the position past it if all its steps are done.
    fn finish_epoch(&mut self, timing: &Timing, validation: &Mean, took: Duration) -> Result<()> {
        let lr = self.last_learning_rate();
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
        self.history.push(record)?;
        let per_epoch = self.training.steps_per_epoch();
        let position = self.position();
        if position.step_in_epoch == per_epoch {
            position.epoch += 1;
            position.step_in_epoch = 0;
            position.mean = Mean::default();
        }
        Ok(())
    }

    /// The learning rate of the step that follows `step` steps.
    fn learning_rate(&self, step: u64) -> f64 {
        let all = self.settings.all_steps(self.training.steps_per_epoch());
        self.settings.learning_rate.rate(step, all)
    }

    /// The learning rate of the last step taken.
    fn last_learning_rate(&self) -> f64 {
        self.learning_rate(self.info.position.step.saturating_sub(1))
    }

    fn checkpoint_due(&self) -> bool {
        let step = self.info.position.step;
        let every = self.settings.checkpoint_every;
        every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Copies the state off the device and has it written, where this process writes it.
    fn save(&mut self, state: &State) -> Result<()> {
        if self.saver.is_none() {
            return Ok(());
        }
        let lap = self.enter(Lap::Checkpoint);
        let state = self.program.download_state(state)?;
        if let Some(saver) = &mut self.saver {
            saver.save(state, self.info.clone())?;
        }
        self.enter(lap);
        Ok(())
    }

    /// Waits until every checkpoint is on disk.
    fn finish_saving(&mut self) -> Result<()> {
        self.saver.as_mut().map_or(Ok(()), Saver::finish)
    }

    /// Waits for the checkpoint just taken, and returns the error that ends the run.
    fn interrupt(&mut self, signal: Signal) -> anyhow::Error {
        self.tell(|observer| observer.finish());
        if let Err(error) = self.finish_saving() {
            return error;
        }
        let step = self.info.position.step;
        Interrupted { signal, step }.into()
    }
}
