//! `predict`: class names for test images, or for the user's own pictures.
//!
//! Images are read, classified and printed one batch at a time, so memory use does not depend on their number.
//!
//! | file | job |
//! | --- | --- |
//! | `subjects` | the images to classify, with name and true class |
//! | `listing` | what is printed for each image |
//! | `gallery` | the picture of the first images |

mod gallery;
mod listing;
mod subjects;

use std::sync::Arc;

use anyhow::{Context, Result};
use ndarray::{Array1, Array4};

use super::inputs;
use super::trained::{self, Trained};
use crate::cli::args::PredictArgs;
use crate::cli::outputs::{Named, Output};
use crate::data::picture::UnreadPictures;
use crate::data::{Batch, BatchSource, CHANNELS, Split};
use crate::run::checkpoint::CheckpointInfo;
use crate::score::ranking::{Ranking, predictions};
use gallery::Gallery;
use listing::Listing;
use subjects::Subjects;

/// Most images in a batch: its activations take most of the memory.
const BATCH_SIZE: usize = 64;

/// A trained network that takes any number of images.
struct Classifier<'a> {
    trained: Trained<'a>,
    info: &'a CheckpointInfo,
    batch_size: usize,
}

pub fn run(args: &PredictArgs) -> Result<()> {
    check_output(args)?;
    let folder = trained::program_folder(&args.from)?;
    let device = trained::open_device(&args.from, folder.as_ref())?;
    let checkpoint = trained::find_or_shipped(&args.from)?;
    let subjects = Subjects::of(args, &checkpoint.info)?;
    let batch_size = subjects.len().min(BATCH_SIZE);
    let batch_size = trained::batch_size(batch_size, &device, folder.as_ref());
    let classifier = Classifier {
        trained: trained::load(&checkpoint, &args.from, batch_size, &device, folder)?,
        info: &checkpoint.info,
        batch_size,
    };
    let spec = &checkpoint.info.spec;
    let mut listing = Listing::start(spec, args.json, subjects.widest_name());
    let mut gallery = Gallery::new(spec);
    for first in (0..subjects.len()).step_by(batch_size) {
        let places = first..subjects.len().min(first + batch_size);
        let read: Vec<_> = places.map(|place| subjects.read(place)).collect();
        let images: Vec<&[u8]> = read
            .iter()
            .flatten()
            .map(|subject| subject.image.as_slice())
            .collect();
        let mut rankings = classifier.classify(&images)?.into_iter();
        for (place, subject) in (first..).zip(&read) {
            match subject {
                Ok(subject) => {
                    let ranking = rankings.next().context("an image without logits")?;
                    listing.classified(subject, &ranking)?;
                    gallery.add(subject, &ranking);
                }
                Err(error) => listing.unread(&subjects.name(place), error)?,
            }
        }
    }
    end(args, listing, &gallery, subjects.len())
}

/// Refuses an output that would overwrite an input, before any work is done.
fn check_output(args: &PredictArgs) -> Result<()> {
    let mut inputs = inputs::of(&args.from);
    inputs.extend(args.images.iter().map(|path| Named::new("IMAGE", path)));
    let output = Output {
        by: "--out",
        path: &args.out,
        ending: "png",
        note: "",
    };
    Ok(output.check(&inputs)?)
}

/// Draws the picture and prints its path. Fails if some of the `all` images could not be read.
fn end(args: &PredictArgs, listing: Listing, gallery: &Gallery, all: usize) -> Result<()> {
    let picture = match gallery.is_empty() {
        true => None,
        false => Some(gallery.save(&args.out)?),
    };
    listing.end(picture)?;
    match all - gallery.seen() {
        0 => Ok(()),
        unread => Err(UnreadPictures { unread, all }.into()),
    }
}

impl Classifier<'_> {
    /// Ranks the classes of each image, for up to one batch of images.
    fn classify(&self, images: &[&[u8]]) -> Result<Vec<Ranking>> {
        let count = images.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let CheckpointInfo {
            spec,
            normalization,
            ..
        } = self.info;
        let shape = (count, spec.side, spec.side, CHANNELS);
        let split = Split {
            images: Array4::from_shape_vec(shape, images.concat())?,
            labels: Array1::zeros(count),
        };
        let source = BatchSource::evaluation(Arc::new(split), *normalization, self.batch_size);
        let mut batch = Batch::default();
        source.fill(0, &mut batch);
        let Trained { program, weights } = &self.trained;
        let logits = program.predict_step(weights, &batch.images)?;
        predictions(&logits, spec.classes(), count)
    }
}
