//! Prints the result of each image as soon as it is known.

mod csv;
mod json;
mod table;

use anyhow::Result;

use super::subjects::Subject;
use crate::cli::args::{JsonForm, PredictArgs};
use crate::data::DatasetSpec;
use crate::data::picture::PictureError;
use crate::score::ranking::Ranking;

/// Classes listed for each image.
const GUESSES: usize = 3;

/// The results on standard output.
pub struct Listing<'a> {
    names: &'a [String],
    form: Box<dyn Form>,
}

/// How results are printed.
trait Form {
    fn classified(&mut self, image: &Classified) -> Result<()>;

    /// The image called `name` could not be read.
    fn unread(&mut self, name: &str, reason: &str) -> Result<()>;

    /// There are no more results.
    fn end(&mut self) -> Result<()>;

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
        let form: Box<dyn Form> = match args.json.or(lines) {
            Some(JsonForm::Array) => Box::new(json::Array::default()),
            Some(JsonForm::Lines) => Box::new(json::Lines),
            None if args.csv => Box::new(csv::Rows::start()?),
            None => Box::new(table::Table { width }),
        };
        let names = &spec.class_names;
        Ok(Self { names, form })
    }

    pub fn classified(&mut self, subject: &Subject, ranking: &Ranking) -> Result<()> {
        let names = self.names;
        let guesses = ranking.iter().take(GUESSES).map(|guess| Guess {
            class: &names[guess.class],
            probability: guess.probability,
        });
        self.form.classified(&Classified {
            name: &subject.name,
            guesses: guesses.collect(),
            truth: subject.truth.map(|truth| names[truth].as_str()),
        })
    }

    /// Records a picture that could not be read, and logs why.
    pub fn unread(&mut self, error: &PictureError) -> Result<()> {
        log::error!("{error}");
        let name = error.path.display().to_string();
        self.form.unread(&name, &error.reason)
    }

    /// Ends the listing; `picture` describes the picture that was drawn.
    pub fn end(mut self, picture: Option<String>) -> Result<()> {
        self.form.end()?;
        match picture {
            Some(picture) if self.form.may_be_followed() => table::say_picture(&picture),
            Some(picture) => {
                log::info!("picture: {picture}");
                Ok(())
            }
            None => Ok(()),
        }
    }
}
