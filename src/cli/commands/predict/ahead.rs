//! Reads images and prints results while others are classified.

use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::bounded;

use super::subjects::{Subject, Subjects};
use crate::data::picture::{self, PictureError};

/// An image that was read, or why not.
pub type Read = Result<Subject, PictureError>;

/// Batches that wait to be classified, or for what becomes of them then.
const WAITING: usize = 2;

/// Calls `classify` with all of `subjects`, in their order, `size` at a time, and `work` with each batch and what is said of
/// it. The next ones are read meanwhile, on as many threads as there are [`picture::decoders`].
pub fn in_batches<C: Send>(
    subjects: &Subjects,
    size: usize,
    classify: impl Fn(&[Read]) -> Result<C> + Send,
    mut work: impl FnMut(Vec<Read>, C) -> Result<()>,
) -> Result<()> {
    let decoders = picture::decoders(0);
    thread::scope(|scope| {
        // Made in the scope: when `work` or `classify` fails, its receiver is gone, and the thread before it ends.
        let (sender, unclassified) = bounded(WAITING);
        let read_all = move || {
            for first in (0..subjects.len()).step_by(size) {
                let end = subjects.len().min(first + size);
                if sender.send(read(subjects, first, end, decoders)).is_err() {
                    return;
                }
            }
        };
        let reader = thread::Builder::new().spawn_scoped(scope, read_all);
        reader.context("starting the thread that reads pictures")?;
        let (sender, classified) = bounded(WAITING);
        let classify_all = move || {
            for batch in unclassified {
                let result = classify(&batch).map(|result| (batch, result));
                let failed = result.is_err();
                if sender.send(result).is_err() || failed {
                    return;
                }
            }
        };
        let classifier = thread::Builder::new().spawn_scoped(scope, classify_all);
        classifier.context("starting the thread that classifies pictures")?;
        for result in classified {
            let (batch, result) = result?;
            work(batch, result)?;
        }
        Ok(())
    })
}

/// The images from the place `first` to before `end`, read on `threads` threads.
fn read(subjects: &Subjects, first: usize, end: usize, threads: usize) -> Vec<Read> {
    let share = (end - first).div_ceil(threads).max(1);
    let read_share = |from: usize| -> Vec<Read> {
        let places = from..end.min(from + share);
        places.map(|place| subjects.read(place)).collect()
    };
    thread::scope(|scope| {
        let others: Vec<_> = (first + share..end)
            .step_by(share)
            .map(|from| {
                let thread = thread::Builder::new().spawn_scoped(scope, move || read_share(from));
                (from, thread)
            })
            .collect();
        let mut images = read_share(first);
        for (from, thread) in others {
            // Without another thread this one reads its share.
            let share = thread.map(|thread| thread.join());
            match share {
                Ok(Ok(share)) => images.extend(share),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => images.extend(read_share(from)),
            }
        }
        images
    })
}
