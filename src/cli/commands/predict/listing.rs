//! What is printed of each image, as soon as it is known.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::Ranking;
use super::subjects::Subject;
use crate::cli::commands::output::{JsonArray, stdout};
use crate::data::CLASS_NAMES;
use crate::data::picture::PictureError;
use crate::score::ranking::Prediction;
use crate::system::text;

/// Classes named for each image.
const GUESSES: usize = 3;

/// The results on standard output: rows of a table, or elements of a JSON array.
pub enum Listing {
    Table { width: usize },
    Json(JsonArray),
}

impl Listing {
    /// `width` is that of the widest name.
    pub fn start(json: bool, width: usize) -> Self {
        match json {
            true => Self::Json(JsonArray::default()),
            false => Self::Table { width },
        }
    }

    pub fn classified(&mut self, subject: &Subject, ranking: &Ranking) -> Result<()> {
        let Subject { name, truth, .. } = subject;
        let guesses = &ranking[..GUESSES];
        match self {
            Self::Table { width } => {
                let guesses: Vec<String> = guesses.iter().map(guess).collect();
                let truth = truth.map_or(String::new(), |c| format!(" true: {}", CLASS_NAMES[c]));
                let name = text::one_line(name);
                writeln!(stdout(), "{name:<width$} {}{truth}", guesses.join(" "))?;
                Ok(())
            }
            Self::Json(array) => {
                let guesses = guesses.iter().map(|guess| {
                    json!({"class": CLASS_NAMES[guess.class], "probability": guess.probability})
                });
                array.push(&json!({
                    "image": name,
                    "predictions": guesses.collect::<Vec<_>>(),
                    "true": truth.map(|truth| CLASS_NAMES[truth]),
                }))
            }
        }
    }

    /// Also says it on standard error.
    pub fn unread(&mut self, name: &str, error: &PictureError) -> Result<()> {
        log::error!("{error}");
        match self {
            Self::Table { .. } => Ok(()),
            Self::Json(array) => array.push(&json!({"image": name, "error": error.reason})),
        }
    }

    /// `picture` says which one was drawn.
    pub fn end(self, picture: Option<String>) -> Result<()> {
        match self {
            Self::Table { .. } => {
                if let Some(picture) = picture {
                    writeln!(stdout(), "\npicture: {picture}")?;
                }
            }
            Self::Json(array) => {
                array.end()?;
                if let Some(picture) = picture {
                    log::info!("picture: {picture}");
                }
            }
        }
        Ok(())
    }
}

fn guess(guess: &Prediction) -> String {
    let percent = 100.0 * guess.probability;
    format!("{:>10} {percent:>3.0}%", CLASS_NAMES[guess.class])
}
