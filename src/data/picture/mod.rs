//! The user's own pictures: reads a PNG, JPEG, WebP or BMP file as an image for the network.
//!
//! | file | job |
//! | --- | --- |
//! | `jpeg/` | reads a JPEG in the resolution of the image, and checks that it is complete |
//! | `exif` | the orientation of a PNG |
//! | `resize` | makes a picture smaller or larger |
//! | `white` | replaces transparency by white |

mod exif;
mod jpeg;
mod resize;
mod white;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::thread;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::system::files::{Disk, Storage};
use crate::system::proc;

/// How the names of picture files end, in lower case.
pub const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

/// Pictures larger than this on a side are refused before they are decoded.
const LARGEST_SIDE: u32 = 16_384;
/// Pictures that need more memory than this are refused too: 89 million RGB pixels.
const MOST_BYTES: u64 = 256 << 20;
/// Longer files are not read.
const LONGEST_FILE: u64 = 256 << 20;
/// What reading one picture may take in all; `fuzzing::tests` holds it to that.
const MOST_OF_A_DECODER: u64 = 1 << 30;

/// A picture that cannot be classified.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the picture {}: {reason}; PNG, JPEG, WebP and BMP files are understood", path.display())]
pub struct PictureError {
    pub path: PathBuf,
    pub reason: String,
}

/// Some pictures could not be read; each was reported before. The program exits with code 3.
#[derive(Debug, thiserror::Error)]
#[error("{unread} of {all} pictures could not be read")]
pub struct UnreadPictures {
    pub unread: usize,
    pub all: usize,
}

/// How many pictures may be read at a time, besides `images` bytes that are still to be filled: one on each core, if
/// there is memory for the largest picture on each of them.
pub fn decoders(images: u64) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let free = proc::available_bytes();
    decoders_within(cores, free.map(|free| free.saturating_sub(images)))
}

/// [`decoders`] on `cores` with `free` bytes of memory; `None`: the system does not say.
fn decoders_within(cores: usize, free: Option<u64>) -> usize {
    let fitting = free.map_or(u64::MAX, |free| free / MOST_OF_A_DECODER);
    usize::try_from(fitting).unwrap_or(cores).clamp(1, cores)
}

/// Whether a file called `name`, in a folder, is taken for a picture.
pub fn is_named_as_picture(name: &OsStr) -> bool {
    let ending = Path::new(name).extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.to_lowercase().as_str()))
}

/// The endings of picture files, for messages.
pub fn endings() -> String {
    format!(".{}", ENDINGS.join(", ."))
}

/// Reads a picture of any size as `[side, side, 3]`: see [`image_of`].
pub fn read(path: &Path, side: usize) -> Result<Vec<u8>, PictureError> {
    image_of(path, content(path)?, side)
}

/// The bytes of the file at `path`.
pub fn content(path: &Path) -> Result<Vec<u8>, PictureError> {
    let bytes = Disk.read(path, LONGEST_FILE);
    bytes.map_err(|error| PictureError {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The picture in `bytes`, of any size, as `[side, side, 3]`: rotated upright, cropped to the largest central square,
/// transparency replaced by white, resized with a triangle filter; most JPEGs get most of the way to this size while they
/// are decoded. Errors call it `path`.
pub fn image_of(path: &Path, bytes: Vec<u8>, side: usize) -> Result<Vec<u8>, PictureError> {
    pixels_of(bytes, side).map_err(|reason| PictureError {
        path: path.to_owned(),
        reason,
    })
}

/// [`image_of`]; errors are the reason alone.
fn pixels_of(bytes: Vec<u8>, side: usize) -> Result<Vec<u8>, String> {
    let format = image::guess_format(&bytes).map_err(|error| error.to_string())?;
    if format == ImageFormat::Jpeg
        && let Some(image) = jpeg::read(&bytes, side)?
    {
        return Ok(image);
    }
    Ok(match decode(bytes, format)? {
        DynamicImage::ImageRgb8(picture) => resize::middle_to_side(&picture, side),
        picture => white::lay_over(middle(picture))
            .resize_exact(side as u32, side as u32, FilterType::Triangle)
            .into_rgb8()
            .into_raw(),
    })
}

/// Decodes the file content `bytes`, of this `format`, and rotates the picture upright.
fn decode(bytes: Vec<u8>, format: ImageFormat) -> Result<DynamicImage, String> {
    let text = |error: ImageError| match error {
        ImageError::Limits(_) => format!(
            "expected at most {LARGEST_SIDE} pixels on a side, and {} MiB of pixels, got more",
            MOST_BYTES >> 20
        ),
        other => other.to_string(),
    };
    let told = exif::of_png(&bytes);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(text)?;
    // The memory for the pixels is not available to the decoder itself.
    limits.reserve(decoder.total_bytes()).map_err(text)?;
    decoder.set_limits(limits).map_err(text)?;
    let orientation = match told {
        Some(orientation) => orientation,
        None => decoder.orientation().map_err(text)?,
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(text)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Crops to the largest central square.
fn middle(picture: DynamicImage) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let side = width.min(height);
    if width == height {
        return picture;
    }
    picture.crop_imm((width - side) / 2, (height - side) / 2, side, side)
}
