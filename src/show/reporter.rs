//! What a run leaves for people to look at, kept up to date: plots, TensorBoard events, report.

use std::sync::Arc;

use anyhow::Result;

use crate::cli::config::Config;
use crate::data::{Batch, BatchSource, CHANNELS, IMAGE_LEN, Normalization, SIDE, Split};
use crate::run::checkpoint::Position;
use crate::run::evaluate::Evaluation;
use crate::run::history::EpochRecord;
use crate::run::run_dir::RunDir;
use crate::score::ranking::predictions;
use crate::show::pictures::{self, Tile};
use crate::show::plot::{self, Quantity, Run};
use crate::show::report;
use crate::show::tensorboard::EventWriter;

/// Images of the first batch that TensorBoard shows, and in one row of its picture.
const BATCH_IMAGES: usize = 64;
const BATCH_COLUMNS: usize = 8;

/// Writes what people look at into a run's folder.
pub struct Reporter<'a> {
    config: &'a Config,
    run_dir: &'a RunDir,
    test: Arc<Split>,
    events: EventWriter,
    /// The step that what this process begins with is shown at.
    first_step: u64,
}

/// Where training stands after an epoch.
pub struct EpochEnd<'a> {
    /// Training steps so far.
    pub step: u64,
    /// All epochs so far.
    pub records: &'a [EpochRecord],
    pub evaluation: &'a Evaluation,
    /// The values of some kernels, by name.
    pub kernels: &'a [(String, Vec<f32>)],
}

impl<'a> Reporter<'a> {
    /// Starts an event file of the run, which begins or goes on at `position`, with the settings.
    pub fn start(
        config: &'a Config,
        run_dir: &'a RunDir,
        test: Arc<Split>,
        position: &Position,
    ) -> Result<Self> {
        let first_step = first_step(position);
        let mut events = EventWriter::create(&run_dir.events(), first_step)?;
        let settings = config.to_toml()?;
        events.text(first_step, "config", &format!("```toml\n{settings}```\n"))?;
        Ok(Self {
            config,
            run_dir,
            test,
            events,
            first_step,
        })
    }

    /// Shows the batch of `step`, the first of this process, in TensorBoard.
    pub fn first_batch(
        &mut self,
        step: u64,
        training: &BatchSource,
        normalization: &Normalization,
    ) -> Result<()> {
        let mut batch = Batch::default();
        training.fill(step, &mut batch);
        let picture = first_images(&batch, normalization)?;
        Ok(self.events.image(
            self.first_step,
            "train/first_batch",
            picture.size,
            picture.bytes,
        )?)
    }

    /// Brings plots, events and report up to date.
    pub fn epoch(&mut self, end: &EpochEnd) -> Result<()> {
        let runs = [Run {
            name: "run",
            records: end.records,
        }];
        plot::save(&self.run_dir.accuracy_plot(), Quantity::Accuracy, &runs)?;
        plot::save(&self.run_dir.loss_plot(), Quantity::Loss, &runs)?;
        self.write_events(end)?;
        let path = self.run_dir.report();
        Ok(report::write(
            &path,
            self.run_dir,
            end.evaluation,
            &self.test,
        )?)
    }

    fn write_events(&mut self, end: &EpochEnd) -> Result<()> {
        let Some(record) = end.records.last() else {
            return Ok(());
        };
        let step_ms = 1000.0 * self.config.batch_size as f64 / record.images_per_sec;
        let mut scalars = vec![
            ("train/loss", record.loss),
            ("train/acc", record.acc),
            ("train/lr", record.lr),
            ("perf/images_per_sec", record.images_per_sec),
            ("perf/step_ms", step_ms),
            ("perf/input_wait_frac", record.input_wait_frac),
        ];
        scalars.extend(record.val_loss.map(|loss| ("val/loss", loss)));
        scalars.extend(record.val_acc.map(|acc| ("val/acc", acc)));
        self.events.scalars(end.step, &scalars)?;
        for (name, values) in end.kernels {
            self.events.histogram(end.step, name, values)?;
        }
        let count = report::TUTORIAL_IMAGES.min(end.evaluation.mean.count() as usize);
        let predictions = predictions(&end.evaluation.logits, count)?;
        let tiles = pictures::prediction_tiles(&self.test, &predictions);
        let picture = pictures::grid(&tiles, pictures::PREDICTION_COLUMNS)?;
        self.events
            .image(end.step, "val/predictions", picture.size, picture.bytes)?;
        Ok(())
    }
}

/// The first step whose events a process writes that begins at `position`. Those of an epoch that is over carry its last
/// step: they stay.
fn first_step(position: &Position) -> u64 {
    let epoch_is_over = position.epoch > 0 && position.step_in_epoch == 0;
    position.step + u64::from(epoch_is_over)
}

/// The first images of a batch as they were before normalisation.
fn first_images(batch: &Batch, normalization: &Normalization) -> Result<pictures::Png> {
    let pixels: Vec<u8> = batch
        .images
        .iter()
        .enumerate()
        .map(|(index, value)| normalization.pixel(*value, index % CHANNELS))
        .collect();
    let tiles: Vec<_> = pixels
        .chunks_exact(IMAGE_LEN)
        .take(batch.count.min(BATCH_IMAGES))
        .map(|image| Tile {
            image,
            side: SIDE,
            caption: Vec::new(),
        })
        .collect();
    Ok(pictures::grid(&tiles, BATCH_COLUMNS)?)
}
