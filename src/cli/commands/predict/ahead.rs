//! Reads images while others are classified.

use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::bounded;

use super::subjects::{Subject, Subjects};
use crate::data::picture::{self, PictureError};

/// An image that was read, or why not.
pub type Read = Result<Subject, PictureError>;

/// Batches that wait to be classified.
const WAITING: usize = 2;

/// Calls `work` with all of `subjects`, in their order, `size` at a time. The next ones are read meanwhile, on as many
/// threads as there are [`picture::decoders`].
pub fn in_batches(
    subjects: &Subjects,
    size: usize,
    mut work: impl FnMut(Vec<Read>) -> Result<()>,
) -> Result<()> {
    let decoders = picture::decoders(0);
    thread::scope(|scope| {
        // Made in the scope: when `work` fails, the receiver is gone, and the reader ends.
        let (sender, receiver) = bounded(WAITING);
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
        for batch in receiver {
            work(batch)?;
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
