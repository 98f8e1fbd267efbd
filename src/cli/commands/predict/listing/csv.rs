//! Results as comma-separated values, under a row of names.

use std::io::Write;

use anyhow::{Context, Result};
use csv::WriterBuilder;

use super::{Classified, Form, GUESSES, Guess};
use crate::cli::commands::output::stdout;

pub struct Rows;

impl Rows {
    /// Prints the names of the columns.
    pub fn start() -> Result<Self> {
        let mut names = vec!["image".to_owned()];
        for place in 1..=GUESSES {
            names.extend([format!("class_{place}"), format!("probability_{place}")]);
        }
        names.extend(["true".to_owned(), "error".to_owned()]);
        print(&names)?;
        Ok(Self)
    }
}

impl Form for Rows {
    fn classified(&mut self, image: &Classified) -> Result<()> {
        let truth = image.truth.unwrap_or_default();
        print(&row(image.name, &image.guesses, truth, ""))
    }

    fn unread(&mut self, name: &str, reason: &str) -> Result<()> {
        print(&row(name, &[], "", reason))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A network of fewer classes leaves columns empty, and so does an image that could not be read.
fn row(name: &str, guesses: &[Guess], truth: &str, error: &str) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    for place in 0..GUESSES {
        row.extend(match guesses.get(place) {
            Some(guess) => [guess.class.to_owned(), guess.probability.to_string()],
            None => [String::new(), String::new()],
        });
    }
    row.extend([truth.to_owned(), error.to_owned()]);
    row
}

fn print(fields: &[String]) -> Result<()> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(fields)?;
    let bytes = writer.into_inner().context("a row of CSV")?;
    Ok(stdout().write_all(&bytes)?)
}
