//! Times the input pipeline: records decoded, images augmented and normalised into batches.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::{Build, Spread};
use crate::data::{
    self, Augment, Batch, BatchSource, Normalization, RECORD_LEN, Split, TrainingOptions,
    parse_records,
};

/// Records in an epoch: as many as CIFAR-10 has training images, too many for a cache.
const RECORDS: usize = 50_000;

/// How to measure; everything runs on one thread.
#[derive(Clone, Copy, Debug)]
pub struct InputBench {
    pub augment: Augment,
    /// At least 1.
    pub batch_size: usize,
    /// Timed epochs, at least 1, after one that is not timed.
    pub epochs: usize,
}

/// What was measured: the object that `bench --input --json` prints. Each rate is the median over
/// the epochs.
#[derive(Clone, Debug, Serialize)]
pub struct InputReport {
    #[serde(flatten)]
    pub build: Build,
    pub augment: Augment,
    pub batch_size: usize,
    pub threads: usize,
    /// Epochs that were timed.
    pub n: usize,
    /// Decoding, augmentation and normalisation together.
    pub images_per_sec: f64,
    pub images_per_sec_q1: f64,
    pub images_per_sec_q3: f64,
    /// From records to images alone.
    pub decode_images_per_sec: f64,
    /// From images to batches alone.
    pub batch_images_per_sec: f64,
}

impl InputBench {
    /// Decodes records of noise and makes an epoch's batches of them, several times.
    pub fn run(&self) -> Result<InputReport> {
        let records = noise_records();
        let mut rates = [const { Vec::new() }; 3];
        for epoch in 0..=self.epochs as u64 {
            let seconds = self.epoch(&records, epoch)?;
            if epoch > 0 {
                let images = RECORDS as f64;
                rates[0].push(images / (seconds.decode + seconds.batch));
                rates[1].push(images / seconds.decode);
                rates[2].push(images / seconds.batch);
            }
        }
        let [both, decode, batch] = rates.map(|rates| Spread::of(&rates));
        Ok(InputReport {
            build: Build::THIS,
            augment: self.augment,
            batch_size: self.batch_size,
            threads: 1,
            n: self.epochs,
            images_per_sec: both.median,
            images_per_sec_q1: both.q1,
            images_per_sec_q3: both.q3,
            decode_images_per_sec: decode.median,
            batch_images_per_sec: batch.median,
        })
    }

    fn epoch(&self, records: &[u8], epoch: u64) -> Result<Seconds> {
        let start = Instant::now();
        let split = Arc::new(parse_records(Path::new("noise"), records)?);
        let decode = start.elapsed().as_secs_f64();

        let source = noise_source(split, self.augment, self.batch_size, epoch);
        let batch = seconds_of_batches(&source, self.batch_size) * RECORDS as f64;
        Ok(Seconds { decode, batch })
    }
}

/// Seconds an image that an epoch of `source` takes, in batches of `batch_size`.
pub fn seconds_of_batches(source: &BatchSource, batch_size: usize) -> f64 {
    let mut batch = Batch::default();
    let start = Instant::now();
    for step in 0..source.steps_per_epoch() {
        source.fill(step, &mut batch);
    }
    let images = source.steps_per_epoch() as usize * batch_size;
    start.elapsed().as_secs_f64() / images as f64
}

/// The mean and the deviation of bytes that are all equally likely.
pub const NOISE_NORMALIZATION: Normalization = Normalization {
    mean: [127.5; 3],
    std: [73.9; 3],
};

/// Training batches of `split`: see [`noise_options`].
pub(super) fn noise_source(
    split: Arc<Split>,
    augment: Augment,
    batch_size: usize,
    seed: u64,
) -> BatchSource {
    let options = noise_options(&split, augment, batch_size, seed);
    BatchSource::training(split, NOISE_NORMALIZATION, options)
}

/// How training batches of `split`, which is made of [`noise_records`], are made. An epoch has every image at least once.
pub fn noise_options(
    split: &Split,
    augment: Augment,
    batch_size: usize,
    seed: u64,
) -> TrainingOptions {
    TrainingOptions {
        augment,
        cutout: 0,
        mix: None,
        seed,
        batch_size,
        shuffle: true,
        steps_per_epoch: Some(split.len().div_ceil(batch_size) as u64),
    }
}

/// How long [`RECORDS`] images took.
struct Seconds {
    decode: f64,
    batch: f64,
}

/// Records of CIFAR-10's format with the labels 0, 1, ... 9 in turn.
pub fn noise_records() -> Vec<u8> {
    let mut records: Vec<u8> = (0..(RECORDS * RECORD_LEN) as u32)
        .map(|position| (position.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect();
    let classes = data::cifar10_spec().classes();
    for (index, record) in records.chunks_exact_mut(RECORD_LEN).enumerate() {
        record[0] = (index % classes) as u8;
    }
    records
}

impl fmt::Display for InputReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let per_image = |rate: f64| 1e6 / rate;
        writeln!(
            f,
            "input, augmentation {:?}, batch {}, one thread: {:.0} images/s (quartiles {:.0} to {:.0}, n = {})",
            self.augment,
            self.batch_size,
            self.images_per_sec,
            self.images_per_sec_q1,
            self.images_per_sec_q3,
            self.n
        )?;
        writeln!(
            f,
            "decode      {:.2} us an image",
            per_image(self.decode_images_per_sec)
        )?;
        write!(
            f,
            "batches     {:.2} us an image (augment, normalise)",
            per_image(self.batch_images_per_sec)
        )
    }
}
