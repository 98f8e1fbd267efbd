//! Times the host's side of training: how fast it could feed a device that takes no time.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::input::{noise_records, noise_source};
use super::{Build, Spread};
use crate::data::{Augment, Batch, Batches, Split, parse_records};
use crate::device::Device;
use crate::system::proc::resident_bytes;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct HostBench {
    pub augment: Augment,
    /// Over all replicas; at least 1.
    pub batch_size: usize,
    /// Timed epochs of 50,000 images, at least 1, after one that is not timed.
    pub epochs: usize,
}

/// What was measured: the object that `bench --host --json` prints. Each rate is the median over
/// the epochs.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    #[serde(flatten)]
    pub build: Build,
    pub device: String,
    pub replicas: usize,
    pub augment: Augment,
    pub batch_size: usize,
    /// Processors that the process may run on.
    pub threads: usize,
    /// Threads that make batches.
    pub workers: usize,
    /// Epochs that were timed.
    pub n: usize,
    /// Batches made and taken by a device that needs no time.
    pub fed_images_per_sec: f64,
    /// Batches made and copied to the device.
    pub uploaded_images_per_sec: f64,
    /// The process's resident memory before the timed epochs and after the last, in 10^6 bytes; absent if the
    /// system does not report it.
    pub first_rss_mb: Option<f64>,
    pub last_rss_mb: Option<f64>,
}

impl HostBench {
    /// Feeds batches of noise by turns to nothing and to `device`, an epoch each.
    pub fn run(&self, device: &Device) -> Result<HostReport> {
        let split = Arc::new(parse_records(Path::new("noise"), &noise_records())?);
        let (mut fed, mut uploaded) = (Vec::new(), Vec::new());
        let mut resident = Vec::new();
        for epoch in 0..=self.epochs as u64 {
            let to_nothing = self.epoch(&split, epoch, |_| Ok(()))?;
            let to_device = self.epoch(&split, epoch, |batch| self.upload(device, batch))?;
            if epoch > 0 {
                fed.push(to_nothing);
                uploaded.push(to_device);
            }
            resident.push(resident_bytes().map(|bytes| bytes as f64 / 1e6));
        }
        Ok(HostReport {
            build: Build::THIS,
            device: device.description(),
            replicas: device.replicas,
            augment: self.augment,
            batch_size: self.batch_size,
            threads: std::thread::available_parallelism()?.get(),
            workers: Batches::default_workers(),
            n: self.epochs,
            fed_images_per_sec: Spread::of(&fed).median,
            uploaded_images_per_sec: Spread::of(&uploaded).median,
            first_rss_mb: resident[0],
            last_rss_mb: resident[resident.len() - 1],
        })
    }

    /// Images per second of one epoch whose batches go to `take`.
    fn epoch(
        &self,
        split: &Arc<Split>,
        epoch: u64,
        mut take: impl FnMut(&Batch) -> Result<()>,
    ) -> Result<f64> {
        let source = noise_source(Arc::clone(split), self.augment, self.batch_size, epoch);
        let steps = source.steps_per_epoch();
        let start = Instant::now();
        let mut batches = Batches::start(Arc::new(source), 0..steps, Batches::default_workers())?;
        while let Some(batch) = batches.next_batch()? {
            take(batch)?;
        }
        Ok((steps as usize * self.batch_size) as f64 / start.elapsed().as_secs_f64())
    }

    /// Copies to each replica's device its share of the images and labels.
    fn upload(&self, device: &Device, batch: &Batch) -> Result<()> {
        let share = self.batch_size / device.replicas;
        let values = batch.images.len() / device.replicas;
        let images = batch.images.chunks_exact(values);
        for (replica, (images, labels)) in images.zip(batch.labels.chunks_exact(share)).enumerate()
        {
            device.upload(images, &[share, values / share], replica)?;
            device.upload(labels, &[share], replica)?;
        }
        Ok(())
    }
}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "the host's side of training, augmentation {:?}, batch {}, {} of {} cores make batches (n = {})",
            self.augment, self.batch_size, self.workers, self.threads, self.n
        )?;
        writeln!(
            f,
            "fed         {:.0} images/s to a device that takes no time",
            self.fed_images_per_sec
        )?;
        write!(
            f,
            "uploaded    {:.0} images/s to {}",
            self.uploaded_images_per_sec, self.device
        )?;
        if let (Some(first), Some(last)) = (self.first_rss_mb, self.last_rss_mb) {
            write!(
                f,
                "\nmemory      {first:.0} MB after the first epoch, {last:.0} MB after the last"
            )?;
        }
        Ok(())
    }
}
