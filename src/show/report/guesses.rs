//! Images with what they were taken for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ReportError, Scored};
use crate::data::{DatasetSpec, Split};
use crate::score::ranking::Prediction;
use crate::show::pictures;
use crate::show::raster::PictureError;

/// An image with its most likely classes.
pub struct Guessed<'a> {
    pub image: String,
    pub truth: &'a str,
    pub correct: bool,
    pub guesses: Vec<Guess<'a>>,
}

pub struct Guess<'a> {
    pub name: &'a str,
    /// In percent.
    pub percent: f64,
    pub correct: bool,
}

pub struct Mistaken<'a> {
    pub image: String,
    pub index: usize,
    pub truth: &'a str,
    pub predicted: &'a str,
    pub percent: f64,
}

pub fn tutorial_predictions<'a>(
    scored: &Scored,
    spec: &'a DatasetSpec,
    split: &Split,
) -> Result<Vec<Guessed<'a>>, ReportError> {
    let names = &spec.class_names;
    let shown = scored.guesses.iter().zip(split.pixels()).zip(&split.labels);
    shown
        .map(|((guesses, image), label)| {
            let truth = usize::from(*label);
            let guess = |prediction: &Prediction| Guess {
                name: &names[prediction.class],
                percent: 100.0 * prediction.probability,
                correct: prediction.class == truth,
            };
            Ok(Guessed {
                image: data_uri(image, spec.side)?,
                truth: &names[truth],
                correct: guesses[0].class == truth,
                guesses: guesses.iter().map(guess).collect(),
            })
        })
        .collect()
}

pub fn mistakes<'a>(
    scored: &Scored,
    spec: &'a DatasetSpec,
    split: &Split,
) -> Result<Vec<Mistaken<'a>>, ReportError> {
    let names = &spec.class_names;
    scored
        .mistakes
        .iter()
        .map(|mistake| {
            Ok(Mistaken {
                image: data_uri(split.image(mistake.index), spec.side)?,
                index: mistake.index,
                truth: &names[mistake.truth],
                predicted: &names[mistake.predicted.class],
                percent: 100.0 * mistake.predicted.probability,
            })
        })
        .collect()
}

/// An image as a PNG in a `data:` URL.
fn data_uri(image: &[u8], side: usize) -> Result<String, PictureError> {
    let png = pictures::image_png(image, side)?;
    Ok(format!("data:image/png;base64,{}", BASE64.encode(png)))
}
