//! The TensorBoard events of a run.

use std::sync::Arc;

use anyhow::Result;
use xla_graphs::table::FIRST_KERNEL;

use crate::data::{Batch, BatchSource, CHANNELS, DatasetSpec, Normalization, Split};
use crate::run::checkpoint::Position;
use crate::run::observer::{EpochEnd, LogPoint, Observer};
use crate::run::run_dir::RunDir;
use crate::score::ranking::predictions;
use crate::show::pictures::{self, Tile};
use crate::show::report;
use crate::show::tensorboard::EventWriter;

/// Images of the first batch shown in TensorBoard, and images per row of the picture.
const BATCH_IMAGES: usize = 64;
const BATCH_COLUMNS: usize = 8;

/// Writes one event file: the settings, the first batch, then the figures of the log's points, and the metrics of each
/// epoch.
pub struct Events<'a> {
    writer: EventWriter,
    batch_size: usize,
    spec: &'a DatasetSpec,
    validation: Arc<Split>,
    /// The step at which this process's first events are shown.
    first_step: u64,
}

impl<'a> Events<'a> {
    /// Starts an event file for the run in `run_dir`, which starts or resumes at `position`, and writes
    /// its settings, `config` in TOML.
    pub fn start(
        run_dir: &RunDir,
        config: &str,
        batch_size: usize,
        spec: &'a DatasetSpec,
        validation: Arc<Split>,
        position: &Position,
    ) -> Result<Self> {
        let first_step = first_step(position);
        let mut writer = EventWriter::create(&run_dir.events(), first_step)?;
        writer.text(first_step, "config", &format!("```toml\n{config}```\n"))?;
        Ok(Self {
            writer,
            batch_size,
            spec,
            validation,
            first_step,
        })
    }

    /// Writes a picture of the batch of `step`, the first batch of this process.
    pub fn first_batch(
        &mut self,
        step: u64,
        training: &BatchSource,
        normalization: &Normalization,
    ) -> Result<()> {
        let mut batch = Batch::default();
        training.fill(step, &mut batch);
        let picture = first_images(&batch, self.spec, normalization)?;
        Ok(self.writer.image(
            self.first_step,
            "train/first_batch",
            picture.size,
            picture.bytes,
        )?)
    }
}

impl Observer for Events<'_> {
    /// Whether to show a kernel's histogram: only for the first kernel, the last one, and one per stage.
    fn wants(&self, name: &str) -> bool {
        has_histogram(name)
    }

    fn log_point(&mut self, point: &LogPoint) -> Result<()> {
        let scalars = [
            ("step/loss", point.loss),
            ("step/acc", point.acc),
            ("step/lr", point.lr),
            ("step/images_per_sec", point.images_per_sec),
        ];
        Ok(self.writer.scalars(point.step, &scalars)?)
    }

    fn epoch_end(&mut self, end: &EpochEnd) -> Result<()> {
        let record = end.record;
        let mut scalars = vec![
            ("train/loss", record.loss),
            ("train/acc", record.acc),
            ("train/lr", record.lr),
            ("perf/input_wait_frac", record.input_wait_frac),
        ];
        if let Some(rate) = record.rate() {
            let step_ms = 1000.0 * self.batch_size as f64 / rate;
            scalars.extend([("perf/images_per_sec", rate), ("perf/step_ms", step_ms)]);
        }
        scalars.extend(record.val_loss.map(|loss| ("val/loss", loss)));
        scalars.extend(record.val_acc.map(|acc| ("val/acc", acc)));
        self.writer.scalars(end.step, &scalars)?;
        for (name, values) in end.tensors.iter().filter(|(name, _)| has_histogram(name)) {
            self.writer.histogram(end.step, name, values)?;
        }
        let count = report::TUTORIAL_IMAGES.min(end.evaluation.mean.count() as usize);
        let predictions = predictions(&end.evaluation.logits, self.spec.classes(), count)?;
        let tiles = pictures::prediction_tiles(&self.validation, self.spec, &predictions);
        let picture = pictures::grid(&tiles, pictures::PREDICTION_COLUMNS)?;
        self.writer
            .image(end.step, "val/predictions", picture.size, picture.bytes)?;
        Ok(())
    }
}

fn has_histogram(name: &str) -> bool {
    // Units of `fast` have one convolution each.
    let of_stage = ["/unit01/conv2/kernel", "/pool/conv1/kernel"];
    [FIRST_KERNEL, "dense/kernel"].contains(&name)
        || (name.starts_with("stage") && of_stage.iter().any(|end| name.ends_with(end)))
}

/// The first step for which a process that starts at `position` writes events. Readers drop earlier events from it on;
/// those of the last step before stay, since that step is not done again.
fn first_step(position: &Position) -> u64 {
    match position.step {
        0 => 0,
        done => done + 1,
    }
}

/// The first images of a batch as they were before normalisation.
fn first_images(
    batch: &Batch,
    spec: &DatasetSpec,
    normalization: &Normalization,
) -> Result<pictures::Png> {
    let pixels: Vec<u8> = batch
        .images
        .iter()
        .enumerate()
        .map(|(index, value)| normalization.pixel(*value, index % CHANNELS))
        .collect();
    let tiles: Vec<_> = pixels
        .chunks_exact(spec.image_len())
        .take(batch.count.min(BATCH_IMAGES))
        .map(|image| Tile {
            image,
            side: spec.side,
            caption: Vec::new(),
        })
        .collect();
    Ok(pictures::grid(&tiles, BATCH_COLUMNS)?)
}

#[cfg(test)]
mod tests {
    use xla_graphs::ops::Lowering;
    use xla_graphs::{Architecture, ResNet};

    use super::*;

    #[test]
    fn the_first_and_the_last_kernel_and_one_of_each_stage_have_histograms() {
        for architecture in [
            Architecture::resnet_v2(20).unwrap(),
            Architecture::fast([16, 32, 32], 1),
        ] {
            let network = ResNet::new(&architecture, 10, Lowering::Dots).unwrap();
            let tensors = network.tensors();
            let shown = tensors.iter().filter(|spec| has_histogram(&spec.name));
            let stages: Vec<&str> = shown
                .map(|spec| spec.name.split('/').next().unwrap())
                .collect();
            assert_eq!(stages, ["conv_in", "stage1", "stage2", "stage3", "dense"]);
        }
    }
}
