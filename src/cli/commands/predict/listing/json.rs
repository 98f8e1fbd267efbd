//! Results as JSON: the elements of one array, or an object on each line.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Classified, Form};
use crate::system::text;

/// An indented array, one element after another.
#[derive(Default)]
pub struct Array {
    begun: bool,
}

impl Array {
    fn push(&mut self, value: &Value, out: &mut String) -> Result<()> {
        // JSON strings have their newlines escaped, so each newline here starts a line of the layout.
        let element = serde_json::to_string_pretty(value)?;
        let element = text::json_for_terminal(&element).replace('\n', "\n  ");
        let before = if self.begun { "," } else { "[" };
        self.begun = true;
        write!(out, "{before}\n  {element}")?;
        Ok(())
    }
}

impl Form for Array {
    fn classified(&mut self, image: &Classified, out: &mut String) -> Result<()> {
        self.push(&result(image), out)
    }

    fn unread(&mut self, name: &str, reason: &str, out: &mut String) -> Result<()> {
        self.push(&failure(name, reason), out)
    }

    fn end(&mut self, out: &mut String) {
        out.push_str(if self.begun { "\n]\n" } else { "[]\n" });
    }
}

/// A line for each image.
pub struct Lines;

impl Form for Lines {
    fn classified(&mut self, image: &Classified, out: &mut String) -> Result<()> {
        line(&result(image), out)
    }

    fn unread(&mut self, name: &str, reason: &str, out: &mut String) -> Result<()> {
        line(&failure(name, reason), out)
    }
}

fn line(value: &Value, out: &mut String) -> Result<()> {
    writeln!(out, "{}", text::json_for_terminal(&value.to_string()))?;
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
