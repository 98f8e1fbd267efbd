//! Pictures of the user's: a PNG or JPEG file as an image that the network takes.
//!
//! | file | job |
//! | --- | --- |
//! | `jpeg/` | whether a JPEG is whole: its decoder takes half of one for a picture |
//! | `exif` | how a PNG is to be turned |
//! | `white` | transparency laid over white |

mod exif;
mod jpeg;
mod white;

#[cfg(test)]
mod tests;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::system::files::{Disk, Storage};

/// Pictures larger than this on a side are refused before they are decoded.
const LARGEST_SIDE: u32 = 16_384;
/// And those that take more memory than this: 89 million RGB pixels.
const MOST_BYTES: u64 = 256 << 20;
/// Longer files are not read.
const LONGEST_FILE: u64 = 256 << 20;

/// A picture that cannot be classified.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the picture {}: {reason}; PNG and JPEG files are understood", path.display())]
pub struct PictureError {
    pub path: PathBuf,
    pub reason: String,
}

/// Some pictures, each named before, could not be read. The program ends with exit code 3 on it.
#[derive(Debug, thiserror::Error)]
#[error("{unread} of {all} pictures could not be read")]
pub struct UnreadPictures {
    pub unread: usize,
    pub all: usize,
}

/// Reads a PNG or JPEG of any size as `[side, side, 3]`: turned upright, laid over white, and of that the
/// largest square in the middle, resized with a triangle filter.
pub fn read(path: &Path, side: usize) -> Result<Vec<u8>, PictureError> {
    let wrong = |reason: String| PictureError {
        path: path.to_owned(),
        reason,
    };
    let bytes = Disk.read(path, LONGEST_FILE);
    let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
    let picture = decode(bytes).map_err(wrong)?;
    let small = white::lay_over(middle(picture))
        .resize_exact(side as u32, side as u32, FilterType::Triangle)
        .into_rgb8();
    Ok(small.into_raw())
}

/// The picture in a file of `bytes`, turned upright.
fn decode(bytes: Vec<u8>) -> Result<DynamicImage, String> {
    let text = |error: ImageError| error.to_string();
    let format = image::guess_format(&bytes).map_err(text)?;
    if format == ImageFormat::Jpeg {
        jpeg::check(&bytes)?;
    }
    let told = exif::of_png(&bytes);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(text)?;
    // What the pixels take is no longer there for the decoder's own needs.
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

/// The largest square in the middle.
fn middle(picture: DynamicImage) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let side = width.min(height);
    if width == height {
        return picture;
    }
    picture.crop_imm((width - side) / 2, (height - side) / 2, side, side)
}
