//! Prints the result of each image as soon as it is known.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::subjects::Subject;
use crate::cli::commands::output::{JsonArray, stdout};
use crate::data::DatasetSpec;
use crate::data::picture::PictureError;
use crate::score::ranking::{Prediction, Ranking};
use crate::system::text;

/// Classes listed for each image.
const GUESSES: usize = 3;

/// The results on standard output.
pub struct Listing<'a> {
    names: &'a [String],
    form: Form,
}

/// Rows of a table, or elements of a JSON array.
enum Form {
    Table { width: usize },
    Json(JsonArray),
}

impl<'a> Listing<'a> {
    /// `width` is the width of the longest image name.
    pub fn start(spec: &'a DatasetSpec, json: bool, width: usize) -> Self {
        let form = match json {
            true => Form::Json(JsonArray::default()),
            false => Form::Table { width },
        };
        let names = &spec.class_names;
        Self { names, form }
    }

    pub fn classified(&mut self, subject: &Subject, ranking: &Ranking) -> Result<()> {
        let Subject { name, truth, .. } = subject;
        let names = self.names;
        let guesses = ranking.iter().take(GUESSES);
        match &mut self.form {
            Form::Table { width } => {
                let guesses: Vec<String> = guesses.map(|guess| cell(names, guess)).collect();
                let truth = truth.map_or(String::new(), |c| format!(" true: {}", names[c]));
                let name = text::one_line(name);
                writeln!(stdout(), "{name:<width$} {}{truth}", guesses.join(" "))?;
                Ok(())
            }
            Form::Json(array) => {
                let guesses = guesses.map(
                    |guess| json!({"class": names[guess.class], "probability": guess.probability}),
                );
                array.push(&json!({
                    "image": name,
                    "predictions": guesses.collect::<Vec<_>>(),
                    "true": truth.map(|truth| &names[truth]),
                }))
            }
        }
    }

    /// Records an image that could not be read, and logs the error.
    pub fn unread(&mut self, name: &str, error: &PictureError) -> Result<()> {
        log::error!("{error}");
        match &mut self.form {
            Form::Table { .. } => Ok(()),
            Form::Json(array) => array.push(&json!({"image": name, "error": error.reason})),
        }
    }

    /// Ends the listing; `picture` describes the picture that was drawn.
    pub fn end(self, picture: Option<String>) -> Result<()> {
        match self.form {
            Form::Table { .. } => {
                if let Some(picture) = picture {
                    writeln!(stdout(), "\npicture: {picture}")?;
                }
            }
            Form::Json(array) => {
                array.end()?;
                if let Some(picture) = picture {
                    log::info!("picture: {picture}");
                }
            }
        }
        Ok(())
    }
}

fn cell(names: &[String], guess: &Prediction) -> String {
    let percent = 100.0 * guess.probability;
    format!("{:>10} {percent:>3.0}%", names[guess.class])
}
