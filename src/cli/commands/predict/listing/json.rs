//! Results as JSON: the elements of one array, or an object on each line.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Classified, Form};
use crate::cli::commands::output::{JsonArray, stdout};
use crate::system::text;

/// An indented array, printed one element at a time.
#[derive(Default)]
pub struct Array(JsonArray);

impl Form for Array {
    fn classified(&mut self, image: &Classified) -> Result<()> {
        self.0.push(&result(image))
    }

    fn unread(&mut self, name: &str, reason: &str) -> Result<()> {
        self.0.push(&failure(name, reason))
    }

    fn end(&mut self) -> Result<()> {
        std::mem::take(&mut self.0).end()
    }
}

/// A line for each image.
pub struct Lines;

impl Form for Lines {
    fn classified(&mut self, image: &Classified) -> Result<()> {
        line(&result(image))
    }

    fn unread(&mut self, name: &str, reason: &str) -> Result<()> {
        line(&failure(name, reason))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

fn line(value: &Value) -> Result<()> {
    writeln!(stdout(), "{}", text::json_for_terminal(&value.to_string()))?;
    Ok(())
}

fn result(image: &Classified) -> Value {
    let guesses = image
        .guesses
        .iter()
        .map(|guess| json!({"class": guess.class, "probability": guess.probability}));
    json!({
        "image": image.name,
        "predictions": guesses.collect::<Vec<_>>(),
        "true": image.truth,
    })
}

fn failure(name: &str, reason: &str) -> Value {
    json!({"image": name, "error": reason})
}
