//! Results as a table for people.

use std::io::Write;

use anyhow::Result;

use super::{Classified, Form, Guess};
use crate::cli::commands::output::stdout;
use crate::system::text;

pub struct Table {
    /// Of the column of names.
    pub width: usize,
}

impl Form for Table {
    fn classified(&mut self, image: &Classified) -> Result<()> {
        let guesses: Vec<String> = image.guesses.iter().map(cell).collect();
        let truth = image
            .truth
            .map_or(String::new(), |truth| format!(" true: {truth}"));
        let (name, width) = (text::one_line(image.name), self.width);
        writeln!(stdout(), "{name:<width$} {}{truth}", guesses.join(" "))?;
        Ok(())
    }

    fn unread(&mut self, _name: &str, _reason: &str) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
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

/// Says below the table which picture was drawn.
pub fn say_picture(picture: &str) -> Result<()> {
    writeln!(stdout(), "\npicture: {picture}")?;
    Ok(())
}
