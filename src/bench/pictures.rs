//! Times the input pipeline on a user's pictures: files decoded and resized, images augmented and normalised into batches.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ndarray::Array1;
use serde::Serialize;

use super::input::{noise_source, seconds_of_batches};
use super::{Build, Spread};
use crate::data::{Augment, CHANNELS, Images, Split, picture};

/// How to measure; everything runs on one thread.
#[derive(Clone, Debug)]
pub struct PicturesBench {
    /// The folder with the pictures.
    pub folder: PathBuf,
    /// Rows and columns of the images.
    pub side: usize,
    pub augment: Augment,
    /// At least 1.
    pub batch_size: usize,
    /// Timed rounds, at least 1, after one that is not timed. Each decodes all pictures and makes the batches of an epoch.
    pub rounds: usize,
}

/// What was measured: the object that `bench --input --pictures DIR --json` prints. Each rate is the median over the
/// rounds.
#[derive(Clone, Debug, Serialize)]
pub struct PicturesReport {
    #[serde(flatten)]
    pub build: Build,
    pub augment: Augment,
    pub batch_size: usize,
    pub image_size: usize,
    pub pictures: usize,
    pub threads: usize,
    /// Rounds that were timed.
    pub n: usize,
    /// Decoding and one epoch's batches together: a run of one epoch.
    pub images_per_sec: f64,
    pub images_per_sec_q1: f64,
    pub images_per_sec_q3: f64,
    /// From files to images alone.
    pub decode_images_per_sec: f64,
    /// From images to batches alone: each later epoch.
    pub batch_images_per_sec: f64,
}

impl PicturesBench {
    /// Reads the pictures and makes batches of them, several times.
    ///
    /// # Errors
    /// There is no picture in the folder, or one cannot be read.
    pub fn run(&self) -> Result<PicturesReport> {
        let paths = pictures_in(&self.folder)?;
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..=self.rounds as u64 {
            let (decode, batch) = self.round(&paths, round)?;
            if round > 0 {
                let images = paths.len() as f64;
                rates[0].push(images / (decode + batch));
                rates[1].push(images / decode);
                rates[2].push(images / batch);
            }
        }
        let [both, decode, batch] = rates.map(|rates| Spread::of(&rates));
        Ok(PicturesReport {
            build: Build::THIS,
            augment: self.augment,
            batch_size: self.batch_size,
            image_size: self.side,
            pictures: paths.len(),
            threads: 1,
            n: self.rounds,
            images_per_sec: both.median,
            images_per_sec_q1: both.q1,
            images_per_sec_q3: both.q3,
            decode_images_per_sec: decode.median,
            batch_images_per_sec: batch.median,
        })
    }

    /// The seconds that decoding and batches took.
    fn round(&self, paths: &[PathBuf], round: u64) -> Result<(f64, f64)> {
        let start = Instant::now();
        // As a run does, which knows how many there are.
        let mut pixels = Vec::with_capacity(paths.len() * self.side * self.side * CHANNELS);
        for path in paths {
            pixels.extend(picture::read(path, self.side)?);
        }
        let decode = start.elapsed().as_secs_f64();
        let split = Arc::new(Split {
            images: Images::in_memory(self.side, pixels),
            labels: Array1::zeros(paths.len()),
        });
        let source = noise_source(split, self.augment, self.batch_size, round);
        let an_image = seconds_of_batches(&source, self.batch_size);
        Ok((decode, an_image * paths.len() as f64))
    }
}

/// The files in `folder` that are named as pictures, by name.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder);
    let entries = entries.with_context(|| format!("reading the folder {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if picture::is_named_as_picture(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "there is no picture in {}",
        folder.display()
    );
    Ok(paths)
}

impl fmt::Display for PicturesReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let per_image = |rate: f64| 1e3 / rate;
        writeln!(
            f,
            "{} pictures at {}, augmentation {:?}, batch {}, one thread: {:.0} images/s (quartiles {:.0} to {:.0}, n = {})",
            self.pictures,
            self.image_size,
            self.augment,
            self.batch_size,
            self.images_per_sec,
            self.images_per_sec_q1,
            self.images_per_sec_q3,
            self.n
        )?;
        writeln!(
            f,
            "decode      {:.3} ms an image, in the first epoch alone",
            per_image(self.decode_images_per_sec)
        )?;
        write!(
            f,
            "batches     {:.3} ms an image (augment, normalise)",
            per_image(self.batch_images_per_sec)
        )
    }
}
