//! Reads pictures on worker threads.

use std::iter::{Enumerate, Zip};
use std::path::Path;
use std::slice::{ChunksExactMut, Iter};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::tree::Picture;
use crate::data::dataset::{CHANNELS, Split};
use crate::data::error::DataError;
use crate::data::picture::{self, PictureError};
use crate::data::progress::Progress;

/// The images of some pictures, and which of the pictures could not be read.
pub struct Decoded {
    /// All of them; a picture that could not be read is black.
    pub split: Split,
    /// With the places of their pictures, in order.
    pub errors: Vec<(usize, PictureError)>,
}

/// The pictures that no thread has taken yet, each with the memory for its image.
type Rest<'a> = Enumerate<Zip<Iter<'a, Picture>, ChunksExactMut<'a, u8>>>;

/// What the threads share.
struct Shared<'a> {
    rest: Rest<'a>,
    errors: Vec<(usize, PictureError)>,
    done: u64,
    progress: Progress,
}

/// Reads `pictures`, those of `folder`, as images of `side` rows and columns.
///
/// # Errors
/// [`DataError::Spawn`] if the system allows no more threads.
pub fn decode(folder: &Path, pictures: &[Picture], side: usize) -> Result<Decoded, DataError> {
    let len = side * side * CHANNELS;
    let bytes = pictures.len() * len;
    let threads = picture::decoders(bytes as u64);
    let mut values = vec![0; bytes];
    let shared = Mutex::new(Shared {
        rest: pictures
            .iter()
            .zip(values.chunks_exact_mut(len))
            .enumerate(),
        errors: Vec::new(),
        done: 0,
        progress: Progress::of_pictures(&folder.display().to_string(), pictures.len() as u64),
    });
    // Threads of their own, which end here: XLA's come later, and the system may allow only so many.
    thread::scope(|scope| {
        for _ in 0..threads.min(pictures.len()) {
            thread::Builder::new()
                .name("pictures".to_owned())
                .spawn_scoped(scope, || read_the_rest(&shared, side))
                .map_err(DataError::Spawn)?;
        }
        Ok::<_, DataError>(())
    })?;
    let mut errors = shared
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .errors;
    errors.sort_by_key(|(place, _)| *place);
    let labels = pictures.iter().map(|picture| picture.label).collect();
    Ok(Decoded {
        split: Split::of(values, labels, side),
        errors,
    })
}

/// Takes one picture after the other until there are none left.
fn read_the_rest(shared: &Mutex<Shared>, side: usize) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let taken = lock().rest.next();
        let Some((place, (picture, image))) = taken else {
            return;
        };
        let read = picture::read(&picture.path, side);
        let mut shared = lock();
        match read {
            Ok(pixels) => image.copy_from_slice(&pixels),
            Err(error) => shared.errors.push((place, error)),
        }
        shared.done += 1;
        let done = shared.done;
        shared.progress.set(done);
    }
}
