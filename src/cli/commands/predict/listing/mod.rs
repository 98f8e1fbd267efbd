//! Prints the results of each batch.

mod csv;
mod json;
mod table;

use std::io::Write;

use anyhow::Result;

use super::subjects::Subject;
use crate::cli::args::{JsonForm, PredictArgs};
use crate::cli::commands::output::stdout;
use crate::data::DatasetSpec;
use crate::data::picture::PictureError;
use crate::score::ranking::Ranking;

/// Classes listed for each image.
const GUESSES: usize = 3;

/// The results on standard output.
pub struct Listing<'a> {
    names: &'a [String],
    form: Box<dyn Form>,
    /// What is still to be printed.
    text: String,
}

/// How results are written, each at the end of `out`.
trait Form {
    fn classified(&mut self, image: &Classified, out: &mut String) -> Result<()>;

    /// The image called `name` could not be read.
    fn unread(&mut self, name: &str, reason: &str, out: &mut String) -> Result<()>;

    /// There are no more results.
    fn end(&mut self, _out: &mut String) {}

    /// Whether a line about the picture that was drawn may follow the results.
    fn may_be_followed(&self) -> bool {
        false
    }
}

/// The result of one image.
struct Classified<'a> {
    name: &'a str,
    /// The most likely classes.
    guesses: Vec<Guess<'a>>,
    /// The true class, if known.
    truth: Option<&'a str>,
}

struct Guess<'a> {
    class: &'a str,
    probability: f64,
}

impl<'a> Listing<'a> {
    /// Results of images of `spec` in the form that `args` name. `width` is the width of the longest image name.
    pub fn start(spec: &'a DatasetSpec, args: &PredictArgs, width: usize) -> Result<Self> {
        let lines = args.jsonl.then_some(JsonForm::Lines);
        let mut text = String::new();
        let form: Box<dyn Form> = match args.json.or(lines) {
            Some(JsonForm::Array) => Box::new(json::Array::default()),
            Some(JsonForm::Lines) => Box::new(json::Lines),
            None if args.csv => Box::new(csv::Rows::start(&mut text)?),
            None => Box::new(table::Table { width }),
        };
        let names = &spec.class_names;
        Ok(Self { names, form, text })
    }

    pub fn classified(&mut self, subject: &Subject, ranking: &Ranking) -> Result<()> {
        let names = self.names;
        let guesses = ranking.iter().take(GUESSES).map(|guess| Guess {
            class: &names[guess.class],
            probability: guess.probability,
        });
        let image = Classified {
            name: &subject.name,
            guesses: guesses.collect(),
            truth: subject.truth.map(|truth| names[truth].as_str()),
        };
        self.form.classified(&image, &mut self.text)
    }

    /// Records a picture that could not be read, and logs why, behind the results of those before it.
    pub fn unread(&mut self, error: &PictureError) -> Result<()> {
        self.print()?;
        log::error!("{error}");
        let name = error.path.display().to_string();
        self.form.unread(&name, &error.reason, &mut self.text)
    }

    /// Prints all results so far, in one call: each call wakes up whoever reads them.
    pub fn print(&mut self) -> Result<()> {
        let mut out = stdout();
        out.write_all(self.text.as_bytes())?;
        out.flush()?;
        self.text.clear();
        Ok(())
    }

    /// Ends the listing; `picture` describes the picture that was drawn.
    pub fn end(mut self, picture: Option<String>) -> Result<()> {
        self.form.end(&mut self.text);
        match picture {
            Some(picture) if self.form.may_be_followed() => {
                self.text.push_str(&format!("\npicture: {picture}\n"));
            }
            Some(picture) => {
                self.print()?;
                log::info!("picture: {picture}");
            }
            None => {}
        }
        self.print()
    }
}
