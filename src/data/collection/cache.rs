//! A file with the decoded images of a collection, so that a later start need not decode them again.
//!
//! ```text
//!  images, one after another │ tail (JSON) │ CRC of the tail │ its length │ magic
//! ```
//!
//! A folder of pictures and a size of images have one file, which is replaced when the pictures have changed. It is next to
//! the run, or in the user's cache where there is no run or nothing can be written there. It is never written to under its
//! final name.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use byteorder::{ByteOrder, LittleEndian};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::decode::Mark;
use super::{Collection, stamp};
use crate::data::dataset::CHANNELS;
use crate::data::error::DataError;
use crate::data::images::Images;
use crate::data::picture::PictureError;
use crate::data::sums::Sums;
use crate::system::files::{self, Disk, Storage};
use crate::system::mapped::Mapped;
use crate::system::{sha256, user_cache};

/// The name of the folder that has the files, next to a run or in the user's cache.
pub const DECODED_IMAGES: &str = "decoded-images";
/// The end of a file: counts up when its form changes.
const MAGIC: &[u8; 16] = b"resnet-xla img 2";
/// CRC, length and magic.
const FOOT: usize = 4 + 8 + MAGIC.len();
/// A temporary file that nobody has written to for so long was left behind by a process that was killed.
const WRITING: Duration = Duration::from_secs(60 * 60);

/// Where the images of a collection are kept, or are to be.
pub struct CacheFile {
    first: Place,
    /// Where they are to be if `first` cannot be written to.
    other: Option<Place>,
    /// What they depend on.
    stamp: String,
    image_len: usize,
}

/// A path at which a file may be.
struct Place {
    path: PathBuf,
    /// The permissions of its folder if that is made, less what the user takes from new files.
    mode: u32,
}

/// Decoded images in a file.
pub struct Kept {
    pub path: PathBuf,
    file: Arc<Mapped>,
    /// Of each image.
    sums: Vec<Sums>,
    /// Why some pictures have no image, by their places.
    pub errors: Vec<(usize, PictureError)>,
    /// The sum over the pictures.
    pub sum: String,
}

/// What is said of the images behind them.
#[derive(Serialize, Deserialize)]
struct Tail {
    stamp: String,
    sum: String,
    /// The CRC of each image.
    images: Vec<u32>,
    /// Of each image.
    sums: Vec<Sums>,
    errors: Vec<Unread>,
}

#[derive(Serialize, Deserialize)]
struct Unread {
    place: usize,
    path: String,
    reason: String,
}

impl CacheFile {
    /// That of `collection` as images of `side` rows and columns, in `folder` or else in the user's cache; `None` if there
    /// is neither.
    pub fn of(
        collection: &Collection,
        side: usize,
        folder: Option<&Path>,
    ) -> Result<Option<Self>, DataError> {
        let name = name(collection, side)?;
        let place = |folder: &Path, mode| Place {
            path: folder.join(&name),
            mode,
        };
        let cache = user_cache::folder().map(|cache| cache.join(DECODED_IMAGES));
        let places = [
            folder.map(|folder| place(folder, 0o777)),
            cache.map(|cache| place(&cache, 0o700)),
        ];
        let mut places = places.into_iter().flatten();
        Ok(places.next().map(|first| Self {
            first,
            other: places.next(),
            stamp: stamp::of(collection, side),
            image_len: side * side * CHANNELS,
        }))
    }

    /// The `count` images in the file; `None` if there is none, or it is of other pictures. A file that is broken is a
    /// warning, and `None`.
    pub fn open(&self, count: usize) -> Option<Kept> {
        let mut places = [Some(&self.first), self.other.as_ref()]
            .into_iter()
            .flatten();
        places.find_map(|place| match self.read(&place.path, count) {
            Ok(kept) => kept,
            Err(reason) => {
                log::warn!("{} is not used: {reason}", place.path.display());
                None
            }
        })
    }

    fn read(&self, path: &Path, count: usize) -> Result<Option<Kept>, String> {
        let mut options = File::options();
        // A link may lead to anything, and opening a pipe could block for ever.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err("it is no file".to_owned());
        }
        let file = Mapped::of(&file).map_err(|error| error.to_string())?;
        let (images, tail) = split(&file).ok_or("it is cut short, or something else")?;
        if tail.stamp != self.stamp {
            log::info!("{}: the pictures have changed", path.display());
            return Ok(None);
        }
        let has_all = [tail.images.len(), tail.sums.len()] == [count; 2];
        if !has_all || images.len() != count * self.image_len {
            return Err("its images are not those that it names".to_owned());
        }
        let errors: Vec<_> = tail.errors.into_iter().map(Unread::into_error).collect();
        let mut unread = errors.iter().map(|(place, _)| *place).peekable();
        let pairs = images.chunks_exact(self.image_len).zip(tail.images);
        for (place, (image, crc)) in pairs.enumerate() {
            let is_unread = unread.next_if_eq(&place).is_some();
            if !is_unread && crc32c::crc32c(image) != crc {
                return Err(format!("its image {place} is damaged"));
            }
        }
        Ok(Some(Kept {
            path: path.to_owned(),
            file: Arc::new(file),
            sums: tail.sums,
            errors,
            sum: tail.sum,
        }))
    }

    /// Begins a new file, which is not in its place until [`Writing::commit`].
    pub fn begin(&self) -> Result<Writing<'_>, DataError> {
        match (self.begin_at(&self.first), &self.other) {
            (Err(error), Some(other)) => {
                log::warn!("{error}; the decoded images go to the user's cache instead");
                self.begin_at(other)
            }
            (begun, _) => begun,
        }
    }

    fn begin_at<'a>(&'a self, place: &'a Place) -> Result<Writing<'a>, DataError> {
        let path = &place.path;
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(place.mode)
            .create(folder)
            .map_err(DataError::io("make the folder", folder))?;
        place.remove_leftovers(folder);
        Ok(Writing {
            stamp: &self.stamp,
            image_len: self.image_len,
            path,
            temporary: Disk
                .create_beside(path)
                .map_err(DataError::io("make", path))?,
        })
    }
}

/// The name of the file of `collection` as images of `side` rows and columns.
fn name(collection: &Collection, side: usize) -> Result<String, DataError> {
    let folder = collection.folder;
    let folder = absolute(folder).map_err(DataError::io("find", folder))?;
    let place = [folder.as_os_str().as_encoded_bytes(), &side.to_le_bytes()].concat();
    let mut name = sha256::sum(&place);
    name.truncate(24);
    Ok(name)
}

impl Place {
    /// Removes what a process that was killed left of this file: it may be large.
    fn remove_leftovers(&self, folder: &Path) {
        let name = self.path.file_name().and_then(|name| name.to_str());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let of_this = entry.file_name().to_str().and_then(files::temporary_target) == name;
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            let age = changed
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            if of_this && age.is_some_and(|age| age > WRITING) {
                // Whoever cannot remove it cannot write beside it either, and hears of that.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Kept {
    /// The images of each part, of which `counts` says how many there are.
    pub fn parts(&self, counts: &[usize; 3], side: usize) -> [Images; 3] {
        let mut first = 0;
        counts.map(|count| {
            let end = first + count;
            let places = first as u32..end as u32;
            let sums = self.sums[first..end].to_vec();
            first = end;
            Images::mapped(side, Arc::clone(&self.file), places.collect()).with_sums(sums)
        })
    }
}

/// A file that is being written.
pub struct Writing<'a> {
    stamp: &'a str,
    image_len: usize,
    /// Its place.
    pub path: &'a Path,
    temporary: NamedTempFile,
}

impl Writing<'_> {
    /// Takes the images, one after another.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Puts the file with all its images in its place. Nobody waits for the disk: what a power cut leaves of it is found
    /// by its sums.
    pub fn commit(
        self,
        marks: &[Mark],
        errors: Vec<(usize, PictureError)>,
        sum: String,
    ) -> Result<Kept, DataError> {
        let path = self.path;
        let tail = Tail {
            stamp: self.stamp.to_owned(),
            sum,
            images: marks.iter().map(|mark| mark.pixels).collect(),
            sums: marks.iter().map(|mark| mark.sums).collect(),
            errors: errors.iter().map(Unread::of).collect(),
        };
        let write = || -> io::Result<Mapped> {
            let end = (marks.len() * self.image_len) as u64;
            let file = self.temporary.as_file();
            file.write_all_at(&tail.to_bytes()?, end)?;
            let mapped = Mapped::of(file)?;
            self.temporary.persist(path)?;
            Ok(mapped)
        };
        let mapped = write().map_err(DataError::io("write", path))?;
        Ok(Kept {
            path: path.to_owned(),
            file: Arc::new(mapped),
            sums: tail.sums,
            errors,
            sum: tail.sum,
        })
    }
}

impl Tail {
    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        let (crc, length) = (crc32c::crc32c(&bytes), bytes.len() as u64);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(MAGIC);
        Ok(bytes)
    }
}

/// The images in the content of a file, and what is said of them.
fn split(bytes: &[u8]) -> Option<(&[u8], Tail)> {
    let (bytes, foot) = bytes.split_at_checked(bytes.len().checked_sub(FOOT)?)?;
    let (crc, length, magic) = (&foot[..4], &foot[4..12], &foot[12..]);
    let length = usize::try_from(LittleEndian::read_u64(length)).ok()?;
    let (images, tail) = bytes.split_at_checked(bytes.len().checked_sub(length)?)?;
    let is_whole = magic == MAGIC && crc32c::crc32c(tail) == LittleEndian::read_u32(crc);
    let tail = is_whole.then(|| serde_json::from_slice(tail).ok())??;
    Some((images, tail))
}

impl Unread {
    fn of((place, error): &(usize, PictureError)) -> Self {
        Self {
            place: *place,
            path: error.path.to_string_lossy().into_owned(),
            reason: error.reason.clone(),
        }
    }

    fn into_error(self) -> (usize, PictureError) {
        let error = PictureError {
            path: self.path.into(),
            reason: self.reason,
        };
        (self.place, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache in `root` for two pictures of 4 x 4 pixels whose files are there.
    fn cache(root: &Path) -> CacheFile {
        cache_in(&root.join("cache"), root)
    }

    /// [`cache`] in `folder`.
    fn cache_in(cache: &Path, root: &Path) -> CacheFile {
        let folder = root.join("pictures");
        let collection = Collection {
            name: "folder",
            folder: &folder,
            class_names: vec!["a".to_owned(), "b".to_owned()],
            labels: [Some(vec![0]), None, Some(vec![1])],
            files: vec![folder.join("a.png"), folder.join("b.png")],
        };
        let file = CacheFile::of(&collection, 4, Some(cache)).unwrap();
        CacheFile {
            // No test looks into the user's own cache.
            other: None,
            ..file.unwrap()
        }
    }

    fn pictures(root: &Path) {
        fs::create_dir(root.join("pictures")).unwrap();
        fs::write(root.join("pictures/a.png"), "first").unwrap();
        fs::write(root.join("pictures/b.png"), "other").unwrap();
    }

    fn fill(cache: &CacheFile, values: [u8; 2]) {
        let writing = cache.begin().unwrap();
        let images = values.map(|value| vec![value; 48]);
        let marks = images.each_ref().map(|image| Mark {
            pixels: crc32c::crc32c(image),
            sums: Sums::of(image),
            ..Mark::default()
        });
        writing.file().write_all_at(&images.concat(), 0).unwrap();
        writing
            .commit(&marks, Vec::new(), "sum".to_owned())
            .unwrap();
    }

    fn first_values(kept: &Kept) -> Vec<u8> {
        let parts = kept.parts(&[1, 0, 1], 4);
        parts
            .iter()
            .flat_map(|part| part.iter().map(|image| image[47]))
            .collect()
    }

    #[test]
    fn what_was_kept_is_found_again_until_a_picture_changes() {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path());
        assert!(cache(folder.path()).open(2).is_none());
        fill(&cache(folder.path()), [7, 9]);
        let kept = cache(folder.path()).open(2).unwrap();
        assert_eq!(
            (first_values(&kept), kept.sum.as_str()),
            (vec![7, 9], "sum")
        );

        // Another picture of the same name and length.
        let path = folder.path().join("pictures/b.png");
        let hour = Duration::from_secs(3600);
        fs::write(&path, "OTHER").unwrap();
        let later = SystemTime::now() + hour;
        File::open(&path).unwrap().set_modified(later).unwrap();
        assert!(cache(folder.path()).open(2).is_none());
        fill(&cache(folder.path()), [1, 2]);
        assert_eq!(first_values(&cache(folder.path()).open(2).unwrap()), [1, 2]);
        // The earlier images are still there for those who have them.
        assert_eq!(first_values(&kept), [7, 9]);
        assert_eq!(
            fs::read_dir(folder.path().join("cache")).unwrap().count(),
            1
        );
    }

    #[test]
    fn the_sums_of_each_image_are_kept_with_it() {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path());
        fill(&cache(folder.path()), [7, 9]);
        let kept = cache(folder.path()).open(2).unwrap();
        let sums = kept
            .parts(&[1, 0, 1], 4)
            .map(|part| part.sums().map(<[Sums]>::to_vec));
        // 16 pixels of three channels.
        let of = |value: u64| Sums {
            values: [16 * value; 3],
            squares: [16 * value * value; 3],
        };
        assert_eq!(sums, [vec![of(7)], Vec::new(), vec![of(9)]].map(Some));
    }

    #[test]
    fn where_nothing_can_be_written_the_file_is_in_the_other_place_and_is_found_there() {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path());
        fs::write(folder.path().join("taken"), "no folder").unwrap();
        let taken = folder.path().join("taken/decoded-images");
        let both = || CacheFile {
            other: Some(cache(folder.path()).first),
            ..cache_in(&taken, folder.path())
        };
        assert!(cache_in(&taken, folder.path()).begin().is_err());
        fill(&both(), [7, 9]);
        assert!(cache(folder.path()).open(2).is_some());
        // Where it can be written again, it is.
        fs::remove_file(folder.path().join("taken")).unwrap();
        assert_eq!(first_values(&both().open(2).unwrap()), [7, 9]);
        fill(&both(), [1, 2]);
        assert_eq!(first_values(&both().open(2).unwrap()), [1, 2]);
        assert!(taken.is_dir());
    }

    #[test]
    fn a_file_with_any_bit_changed_or_cut_anywhere_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path());
        let cache = cache(folder.path());
        fill(&cache, [7, 9]);
        let path = &cache.first.path;
        let whole = fs::read(path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            for bytes in [&changed[..], &whole[..at]] {
                fs::write(path, bytes).unwrap();
                assert!(cache.open(2).is_none(), "{at}");
            }
        }
        fs::write(path, &whole).unwrap();
        assert!(cache.open(2).is_some());
        assert!(cache.open(3).is_none());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_after_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path());
        let cache = cache(folder.path());
        let name = cache.first.path.file_name().unwrap().to_str().unwrap();
        let place = folder.path().join("cache");
        fs::create_dir(&place).unwrap();
        let left = [format!(".{name}.Ab12Cd.tmp"), format!(".{name}.Ef34Gh.tmp")];
        for (name, age) in left.iter().zip([7200, 60]) {
            let file = File::create(place.join(name)).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(time).unwrap();
        }
        drop(cache.begin().unwrap());
        assert_eq!(left.map(|name| place.join(name).exists()), [false, true]);
    }
}
