//! Turns drawing commands into PNG and SVG, for plots and pictures.

use std::error::Error;

use image::{ImageFormat, RgbImage, imageops};
use plotters::{
    coord::Shift,
    prelude::{BitMapBackend, DrawingArea, IntoDrawingArea, SVGBackend},
    style::{FontStyle, register_font},
};
use thiserror::Error;

use crate::system::files::WriteError;

/// The font family of all text in pictures: Roboto, embedded, so that no system font is needed.
pub const FONT: &str = "sans-serif";

/// Pictures are drawn larger by this factor and averaged down, because plotters neither smooths thick lines nor
/// places letters between pixels.
pub const OVERSAMPLING: u32 = 3;

static ROBOTO: &[u8] = include_bytes!("../../assets/Roboto-Regular.ttf");

/// A picture that could not be made.
#[derive(Debug, Error)]
pub enum PictureError {
    #[error("cannot draw the picture: {0}")]
    Draw(Box<dyn Error + Send + Sync>),
    #[error("cannot encode the picture as PNG: {0}")]
    Encode(image::ImageError),
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

/// A PNG of `size` (width, height) pixels.
///
/// `draw` gets an area [`OVERSAMPLING`] times that size; it has to scale its lengths and font sizes by this factor.
pub fn png<E>(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<BitMapBackend, Shift>) -> Result<(), E>,
) -> Result<Vec<u8>, PictureError>
where
    E: Error + Send + Sync + 'static,
{
    register_roboto();
    let mut large = RgbImage::new(size.0 * OVERSAMPLING, size.1 * OVERSAMPLING);
    let large_size = large.dimensions();
    {
        let area = BitMapBackend::with_buffer(&mut large, large_size).into_drawing_area();
        draw(&area).map_err(|error| PictureError::Draw(Box::new(error)))?;
        area.present()
            .map_err(|error| PictureError::Draw(Box::new(error)))?;
    }
    encode_png(&imageops::thumbnail(&large, size.0, size.1))
}

/// An SVG of `size` (width, height) units.
pub fn svg<E>(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Result<(), E>,
) -> Result<String, PictureError>
where
    E: Error + Send + Sync + 'static,
{
    register_roboto();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).map_err(|error| PictureError::Draw(Box::new(error)))?;
        area.present()
            .map_err(|error| PictureError::Draw(Box::new(error)))?;
    }
    Ok(text)
}

/// The bytes of a PNG file.
pub fn encode_png(picture: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut png = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .map_err(PictureError::Encode)?;
    Ok(png.into_inner())
}

fn register_roboto() {
    // Fails only if the bytes are not a font; drawing text would then report the font as missing.
    let _ = register_font(FONT, FontStyle::Normal, ROBOTO);
}
