//! Pixels for a network.

use super::PredictError;
use crate::data::CHANNELS;

/// A square image: `[side, side, 3]`, red, green and blue from 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    side: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of `side` rows and columns; `pixels` holds them row by row, three values each.
    ///
    /// # Errors
    /// [`PredictError::Pixels`] if there are more values or fewer.
    pub fn from_rgb(side: usize, pixels: Vec<u8>) -> Result<Self, PredictError> {
        let expected = side
            .checked_mul(side)
            .and_then(|area| area.checked_mul(CHANNELS));
        if expected != Some(pixels.len()) {
            return Err(PredictError::Pixels {
                side,
                got: pixels.len(),
            });
        }
        Ok(Self::new(side, pixels))
    }

    /// [`Self::from_rgb`] of pixels that are known to be so many.
    pub(crate) fn new(side: usize, pixels: Vec<u8>) -> Self {
        Self { side, pixels }
    }

    /// Rows and columns.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Row by row, three values each.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}
