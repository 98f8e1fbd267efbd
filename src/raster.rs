//! From drawing commands to a PNG file: what plots and pictures share.

use std::{error::Error, path::Path};

use image::{ImageFormat, RgbImage, imageops};
use plotters::{
    coord::Shift,
    prelude::{BitMapBackend, DrawingArea, IntoDrawingArea},
    style::{FontStyle, register_font},
};
use thiserror::Error;

use crate::files::{self, WriteError};

/// The font family of every text in a picture: Roboto, embedded, so that no font of the system is needed.
pub const FONT: &str = "sans-serif";

/// Pictures are drawn this many times larger and averaged down, since plotters neither smooths thick lines nor
/// places letters between pixels.
pub const OVERSAMPLING: u32 = 3;

static ROBOTO: &[u8] = include_bytes!("../assets/Roboto-Regular.ttf");

/// A picture that could not be made.
#[derive(Debug, Error)]
pub enum PictureError {
    #[error("cannot draw the picture: {0}")]
    Draw(Box<dyn Error + Send + Sync>),
    #[error("cannot encode the picture as PNG: {0}")]
    Encode(#[from] image::ImageError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(
        "picture {index} of the grid: expected {expected} bytes ({side} x {side} x 3), got {got}"
    )]
    TileSize {
        index: usize,
        side: usize,
        expected: usize,
        got: usize,
    },
}

/// Writes the PNG file `path`, `size` (width, height) pixels, atomically.
///
/// `draw` gets an area [`OVERSAMPLING`] times that size; it has to scale its lengths and font sizes by as much.
pub fn save_png<E>(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<BitMapBackend, Shift>) -> Result<(), E>,
) -> Result<(), PictureError>
where
    E: Error + Send + Sync + 'static,
{
    // Fails only for bytes that are no font; drawing text would then report the font as missing.
    let _ = register_font(FONT, FontStyle::Normal, ROBOTO);

    let mut large = RgbImage::new(size.0 * OVERSAMPLING, size.1 * OVERSAMPLING);
    let large_size = large.dimensions();
    {
        let area = BitMapBackend::with_buffer(&mut large, large_size).into_drawing_area();
        draw(&area).map_err(|error| PictureError::Draw(Box::new(error)))?;
        area.present()
            .map_err(|error| PictureError::Draw(Box::new(error)))?;
    }
    let picture = imageops::thumbnail(&large, size.0, size.1);
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(files::write_bytes(path, png.get_ref())?)
}
