//! Results as comma-separated values, under a row of names.

use anyhow::{Context, Result};
use csv::WriterBuilder;

use super::{Classified, Form, GUESSES, Guess};

pub struct Rows;

impl Rows {
    /// The names of the columns come first.
    pub fn start(out: &mut String) -> Result<Self> {
        let mut names = vec!["image".to_owned()];
        for place in 1..=GUESSES {
            names.extend([format!("class_{place}"), format!("probability_{place}")]);
        }
        names.extend(["true".to_owned(), "error".to_owned()]);
        add(&names, out)?;
        Ok(Self)
    }
}

impl Form for Rows {
    fn classified(&mut self, image: &Classified, out: &mut String) -> Result<()> {
        let truth = image.truth.unwrap_or_default();
        add(&row(image.name, &image.guesses, truth, ""), out)
    }

    fn unread(&mut self, name: &str, reason: &str, out: &mut String) -> Result<()> {
        add(&row(name, &[], "", reason), out)
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

fn add(fields: &[String], out: &mut String) -> Result<()> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(fields)?;
    let bytes = writer.into_inner().context("a row of CSV")?;
    out.push_str(std::str::from_utf8(&bytes)?);
    Ok(())
}
