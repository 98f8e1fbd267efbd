//! The user's own pictures: reads a PNG, JPEG, WebP or BMP file as an image for the network.
//!
//! | file | job |
//! | --- | --- |
//! | `jpeg/` | checks that a JPEG is complete: the decoder accepts half a file |
//! | `exif` | the orientation of a PNG |
//! | `white` | replaces transparency by white |

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
/// Pictures that need more memory than this are refused too: 89 million RGB pixels.
const MOST_BYTES: u64 = 256 << 20;
/// Longer files are not read.
const LONGEST_FILE: u64 = 256 << 20;

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

/// Reads a picture of any size as `[side, side, 3]`: rotated upright, cropped to the largest central
/// square, transparency replaced by white, resized with a triangle filter.
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

/// Decodes the file content `bytes` and rotates the picture upright.
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
