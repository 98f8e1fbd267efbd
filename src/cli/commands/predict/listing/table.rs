//! Results as a table for people.

use std::fmt::Write;

use anyhow::Result;

use super::{Classified, Form, Guess};
use crate::system::text;

pub struct Table {
    /// Of the column of names.
    pub width: usize,
}

impl Form for Table {
    fn classified(&mut self, image: &Classified, out: &mut String) -> Result<()> {
        let guesses: Vec<String> = image.guesses.iter().map(cell).collect();
        let truth = image
            .truth
            .map_or(String::new(), |truth| format!(" true: {truth}"));
        let (name, width) = (text::one_line(image.name), self.width);
        writeln!(out, "{name:<width$} {}{truth}", guesses.join(" "))?;
        Ok(())
    }

    /// The log says so.
    fn unread(&mut self, _name: &str, _reason: &str, _out: &mut String) -> Result<()> {
        Ok(())
    }

    fn may_be_followed(&self) -> bool {
        true
    }
}

fn cell(guess: &Guess) -> String {
    let percent = 100.0 * guess.probability;
    format!("{:>10} {percent:>3.0}%", guess.class)
}
