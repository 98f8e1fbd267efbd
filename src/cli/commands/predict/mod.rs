//! `predict`: class names for test images, or for the user's own pictures.
//!
//! Images are read, classified and printed a few batches at a time, so memory use does not depend on their number.
//!
//! | file | job |
//! | --- | --- |
//! | `subjects` | the images to classify, with name and true class |
//! | `folders` | the pictures in folders |
//! | `ahead` | reads images and prints results while others are classified |
//! | `listing/` | what is printed for each image, one file for each form |
//! | `gallery` | the picture of the first images |
//! | `pace` | how fast images are classified |

mod ahead;
mod folders;
mod gallery;
mod listing;
mod pace;
mod subjects;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{inputs, trained};
use crate::cli::args::PredictArgs;
use crate::cli::outputs::{Named, Output};
use crate::data::picture::UnreadPictures;
use crate::predict::{BATCH_SIZE, Classifier, Ranking};
use crate::show::progress::Count;
use crate::system::process::Process;
use ahead::Read;
pub use folders::FolderError;
use gallery::Gallery;
use listing::Listing;
use pace::Pace;
use subjects::Subjects;

/// Images of a batch where there are [`MANY`] that are [`SMALL`]: what a batch costs besides its images is little then.
const LARGE_BATCH: usize = 128;
/// So many images that a last batch that is not full does not matter.
const MANY: usize = 8 * LARGE_BATCH;
/// Rows and columns of images of which one takes no longer than what a batch costs besides its images.
const SMALL: usize = 32;

pub fn run(args: &PredictArgs, process: &Process) -> Result<()> {
    let pictures = folders::expand(&args.images)?;
    check_output(args, &pictures)?;
    let folder = trained::program_folder(&args.from)?;
    let device = trained::open_device(&args.from, folder.as_ref())?;
    let source = trained::find_or_shipped(&args.from)?;
    let info = source.info.clone();
    let subjects = Subjects::of(args, pictures, &info)?;
    let batch_size = batch_size(subjects.len(), info.spec.side);
    let batch_size = trained::batch_size(batch_size, &device, folder.as_ref());
    let options = trained::options(&args.from);
    let classifier = Classifier::on(&device, source, &options, batch_size, folder)?;

    let mut results = Results {
        listing: Listing::start(&info.spec, args, subjects.widest_name())?,
        gallery: Gallery::new(&info.spec),
    };
    let count = Count::start(process.logger.terminal(), "classifying", subjects.len());
    let classify = |batch: &[Read]| {
        let start = Instant::now();
        let images: Vec<_> = batch.iter().flatten().map(|read| &read.image).collect();
        let rankings = classifier.classify_all(&images)?;
        Ok((rankings, start..Instant::now()))
    };
    let mut pace = Pace::default();
    let size = classifier.batch_size();
    ahead::in_batches(
        &subjects,
        size,
        classify,
        |batch, (rankings, in_network)| {
            count.making_room(|| results.add(&batch, rankings))?;
            count.add(batch.len());
            pace.add(batch.len(), in_network);
            Ok(())
        },
    )?;
    drop(count);
    pace.log(Instant::now());
    results.end(args, subjects.len())
}

/// Images of a batch, where there are so many of `side` rows and columns. There are few sizes, as each is compiled for
/// itself.
fn batch_size(images: usize, side: usize) -> usize {
    let is_large = images >= MANY && side <= SMALL;
    images.min(if is_large { LARGE_BATCH } else { BATCH_SIZE })
}

/// Refuses an output that would overwrite an input, before any work is done.
fn check_output(args: &PredictArgs, pictures: &[PathBuf]) -> Result<()> {
    let mut inputs = inputs::of(&args.from);
    inputs.extend(pictures.iter().map(|path| Named::new("IMAGE", path)));
    let output = Output {
        by: "--out",
        path: &args.out,
        ending: "png",
    };
    Ok(output.check(&inputs)?)
}

/// What becomes of the predictions.
struct Results<'a> {
    listing: Listing<'a>,
    gallery: Gallery<'a>,
}

impl Results<'_> {
    /// Adds and prints the images of a batch; `rankings` has those that were read.
    fn add(&mut self, batch: &[Read], rankings: Vec<Ranking>) -> Result<()> {
        let mut rankings = rankings.into_iter();
        for image in batch {
            match image {
                Ok(subject) => {
                    let ranking = rankings.next().context("an image without logits")?;
                    self.listing.classified(subject, &ranking)?;
                    self.gallery.add(subject, &ranking);
                }
                Err(error) => self.listing.unread(error)?,
            }
        }
        self.listing.print()
    }

    /// Draws the picture and prints its path. Fails if some of the `all` images could not be read.
    fn end(self, args: &PredictArgs, all: usize) -> Result<()> {
        let picture = match self.gallery.is_empty() {
            true => None,
            false => Some(self.gallery.save(&args.out)?),
        };
        self.listing.end(picture)?;
        match all - self.gallery.seen() {
            0 => Ok(()),
            unread => Err(UnreadPictures { unread, all }.into()),
        }
    }
}
