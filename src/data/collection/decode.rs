//! Reads pictures on worker threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

use crate::data::dataset::CHANNELS;
use crate::data::error::DataError;
use crate::data::picture::{self, PictureError};
use crate::data::progress::Progress;
use crate::data::sums::Sums;

/// A picture that is to be decoded.
pub struct Encoded {
    /// Its name in messages, below the folder of all pictures.
    pub path: PathBuf,
    pub content: Content,
}

/// Where the bytes of a picture are.
pub enum Content {
    /// In the file that the picture is named after.
    File,
    Bytes(Vec<u8>),
    /// There are none, for this reason.
    Missing(&'static str),
}

/// What is remembered of a picture besides its image.
#[derive(Clone, Default)]
pub struct Mark {
    /// Its path within the folder.
    pub name: String,
    /// The SHA-256 sum of its bytes.
    pub content: [u8; 32],
    /// The CRC of the pixels of its image.
    pub pixels: u32,
    /// Of its image.
    pub sums: Sums,
}

/// The images of some pictures, and which of the pictures could not be read.
pub struct Decoded {
    /// One image after another for each part; where a picture could not be read, it is black. Empty if they went to a
    /// file.
    pub parts: [Vec<u8>; 3],
    /// With the places of their pictures, in order.
    pub errors: Vec<(usize, PictureError)>,
    /// Of each picture.
    pub marks: Vec<Mark>,
}

/// The place of an image that is still to come.
enum Slot<'a> {
    Memory(&'a mut [u8]),
    File { file: &'a File, offset: u64 },
}

impl Slot<'_> {
    fn fill(self, pixels: &[u8]) -> io::Result<()> {
        match self {
            Slot::Memory(image) => image.copy_from_slice(pixels),
            Slot::File { file, offset } => file.write_all_at(pixels, offset)?,
        }
        Ok(())
    }
}

/// What the threads share.
struct Shared<P, S> {
    pictures: P,
    slots: S,
    taken: usize,
    done: u64,
    errors: Vec<(usize, PictureError)>,
    marks: Vec<Mark>,
    /// Why no more pictures can be had, or where no image can be written.
    failed: Option<DataError>,
    progress: Progress,
}

/// Reads `pictures` of `folder`, `counts` of each part, as images of `side` rows and columns.
///
/// # Errors
/// An error of `pictures`; [`DataError::Spawn`] if the system allows no more threads.
pub fn into_memory(
    folder: &Path,
    counts: &[usize; 3],
    pictures: impl Iterator<Item = Result<Encoded, DataError>> + Send,
    side: usize,
) -> Result<Decoded, DataError> {
    let len = side * side * CHANNELS;
    let mut parts = counts.map(|count| vec![0; count * len]);
    let slots = parts.iter_mut().flat_map(|part| part.chunks_exact_mut(len));
    let all = counts.iter().sum();
    let (errors, marks) = decode(folder, all, pictures, slots.map(Slot::Memory), side)?;
    Ok(Decoded {
        parts,
        errors,
        marks,
    })
}

/// [`into_memory`], but all `count` images are written to `file`, one after another.
///
/// # Errors
/// Also [`DataError::Io`].
pub fn into_file(
    folder: &Path,
    count: usize,
    pictures: impl Iterator<Item = Result<Encoded, DataError>> + Send,
    side: usize,
    file: &File,
) -> Result<Decoded, DataError> {
    let len = (side * side * CHANNELS) as u64;
    let slots = (0..count as u64).map(|place| Slot::File {
        file,
        offset: place * len,
    });
    let (errors, marks) = decode(folder, count, pictures, slots, side)?;
    Ok(Decoded {
        parts: Default::default(),
        errors,
        marks,
    })
}

type ErrorsAndMarks = (Vec<(usize, PictureError)>, Vec<Mark>);

fn decode<'s>(
    folder: &Path,
    count: usize,
    pictures: impl Iterator<Item = Result<Encoded, DataError>> + Send,
    slots: impl Iterator<Item = Slot<'s>> + Send,
    side: usize,
) -> Result<ErrorsAndMarks, DataError> {
    let bytes = count * side * side * CHANNELS;
    let threads = picture::decoders(bytes as u64);
    let shared = Mutex::new(Shared {
        pictures,
        slots,
        taken: 0,
        done: 0,
        errors: Vec::new(),
        marks: vec![Mark::default(); count],
        failed: None,
        progress: Progress::of_pictures(&folder.display().to_string(), count as u64),
    });
    // Threads of their own, which end here: XLA's come later, and the system may allow only so many.
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            thread::Builder::new()
                .name("pictures".to_owned())
                .spawn_scoped(scope, || read_the_rest(folder, &shared, side))
                .map_err(DataError::Spawn)?;
        }
        Ok::<_, DataError>(())
    })?;
    let mut shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = shared.failed {
        return Err(error);
    }
    shared.errors.sort_by_key(|(place, _)| *place);
    Ok((shared.errors, shared.marks))
}

/// Takes one picture after the other until there are none left.
fn read_the_rest<'s, P, S>(folder: &Path, shared: &Mutex<Shared<P, S>>, side: usize)
where
    P: Iterator<Item = Result<Encoded, DataError>>,
    S: Iterator<Item = Slot<'s>>,
{
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let taken = take(&mut lock());
        let Some((place, encoded, slot)) = taken else {
            return;
        };
        let name = encoded.path.strip_prefix(folder).unwrap_or(&encoded.path);
        let mut mark = Mark {
            name: name.to_string_lossy().into_owned(),
            ..Mark::default()
        };
        let read = read(encoded, &mut mark, side);
        let written = match &read {
            Ok(pixels) => slot.fill(pixels),
            Err(_) => Ok(()),
        };
        let mut shared = lock();
        shared.marks[place] = mark;
        if let Err(error) = read {
            shared.errors.push((place, error));
        }
        if let Err(error) = written {
            shared.failed = Some(DataError::io("write decoded images of", folder)(error));
        }
        shared.done += 1;
        let done = shared.done;
        shared.progress.set(done);
    }
}

/// The next picture, its place among all, and the place of its image; `None` if there are no more, or some thread failed.
fn take<'s, P, S>(shared: &mut Shared<P, S>) -> Option<(usize, Encoded, Slot<'s>)>
where
    P: Iterator<Item = Result<Encoded, DataError>>,
    S: Iterator<Item = Slot<'s>>,
{
    if shared.failed.is_some() {
        return None;
    }
    let slot = shared.slots.next()?;
    match shared.pictures.next()? {
        Ok(encoded) => {
            shared.taken += 1;
            Some((shared.taken - 1, encoded, slot))
        }
        Err(error) => {
            shared.failed = Some(error);
            None
        }
    }
}

/// The pixels of a picture, whose bytes and pixels are summed up in `mark`.
fn read(encoded: Encoded, mark: &mut Mark, side: usize) -> Result<Vec<u8>, PictureError> {
    let Encoded { path, content } = encoded;
    let bytes = match content {
        Content::File => picture::content(&path)?,
        Content::Bytes(bytes) => bytes,
        Content::Missing(reason) => {
            let reason = reason.to_owned();
            return Err(PictureError { path, reason });
        }
    };
    mark.content = Sha256::digest(&bytes).into();
    let pixels = picture::image_of(&path, bytes, side)?;
    mark.pixels = crc32c::crc32c(&pixels);
    mark.sums = Sums::of(&pixels);
    Ok(pixels)
}
