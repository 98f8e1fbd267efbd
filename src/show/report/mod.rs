//! `report.html`: a run on a single page that needs no network and no other file.
//!
//! | file | job |
//! | --- | --- |
//! | `page` | the page of a run, in the form that its template needs |
//! | `figures`, `epochs`, `classes`, `guesses`, `origin` | its parts: numbers, history, classes, images, how it came about |
//! | `comparison` | the page that compares runs |
//! | `scored` | what was scored for a page |
//! | `units` | numbers with their units |

mod classes;
mod comparison;
mod epochs;
mod figures;
mod guesses;
mod origin;
mod page;
mod scored;
mod units;

use std::path::{Path, PathBuf};
use std::{fs, io};

use askama::Template;
use serde_json::Value;
use thiserror::Error;

use crate::data::{DatasetSpec, Validation};
use crate::run::history::{History, HistoryError};
use crate::run::observer::StepFigures;
use crate::run::run_dir::RunDir;
use crate::show::raster::PictureError;
use crate::system::files::{self, WriteError};
use crate::system::text;
use comparison::Comparison;
use page::Page;
pub use scored::Scored;
pub use units::duration;

/// Images whose predictions are shown, as in the tutorial.
pub const TUTORIAL_IMAGES: usize = 10;

/// A report that cannot be made.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot read {}: {reason}; is its folder the folder of a run?", path.display())]
    Read { path: PathBuf, reason: io::Error },
    #[error("cannot understand {}: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    #[error("cannot fill the page's template: {0}")]
    Template(askama::Error),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The epoch that a run is in.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// From 1.
    pub epoch: usize,
    /// Of the whole run.
    pub epochs: usize,
    /// Training steps done in the epoch.
    pub done: usize,
    /// Training steps of the epoch.
    pub steps: usize,
    /// Of the epoch so far.
    pub figures: Option<StepFigures>,
}

/// Writes the report of a run to `path`, from the files in its folder and what was `scored` on the first images of
/// `validation`, which `spec` describes. If that is nothing, the page leaves out what comes from it.
///
/// An unfinished run has no `result.json` yet; the page then leaves out what comes only from that file. The page of a
/// `running` one loads itself again from time to time.
pub fn write(
    path: &Path,
    run_dir: &RunDir,
    scored: &Scored,
    spec: &DatasetSpec,
    validation: &Validation,
    running: Option<&Running>,
) -> Result<(), ReportError> {
    let page = Page::new(
        &Run::read(run_dir)?,
        scored,
        spec,
        validation,
        running.map(page::Now::of),
    )?;
    let page = page.render().map_err(ReportError::Template)?;
    Ok(files::write_text(path, &page)?)
}

/// Writes a page to `path` that compares the runs in `folders`, each with its name.
pub fn compare(path: &Path, folders: &[(String, RunDir)]) -> Result<(), ReportError> {
    let read = |(name, folder): &(String, RunDir)| -> Result<Run, ReportError> {
        let run = Run::read(folder)?;
        Ok(Run {
            name: name.clone(),
            ..run
        })
    };
    let runs = folders.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let page = Comparison::new(&runs)?.render();
    let page = page.map_err(ReportError::Template)?;
    Ok(files::write_text(path, &page)?)
}

/// The content of the files in a run's folder.
struct Run {
    name: String,
    config_text: String,
    config: toml::Table,
    /// Null if the file was lost.
    env: Value,
    /// Null while the run is in progress.
    result: Value,
    history: History,
}

impl Run {
    fn read(run_dir: &RunDir) -> Result<Self, ReportError> {
        let config_text = read(&run_dir.config())?;
        let config = config_text
            .parse()
            .map_err(|error: toml::de::Error| ReportError::Format {
                path: run_dir.config(),
                reason: text::toml_error(&error, &config_text),
            })?;
        Ok(Self {
            name: run_dir.root().display().to_string(),
            config_text,
            config,
            env: read_if_there(&run_dir.env())?,
            result: read_if_there(&run_dir.result())?,
            history: History::read(&run_dir.history())?,
        })
    }

    /// A setting as text; "" if it is not set.
    fn setting(&self, key: &str) -> String {
        match self.config.get(key) {
            None => String::new(),
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }
}

fn read(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(|reason| ReportError::Read {
        path: path.to_owned(),
        reason,
    })
}

/// [`read_json`], or null if there is no such file.
fn read_if_there(path: &Path) -> Result<Value, ReportError> {
    match path.exists() {
        true => read_json(path),
        false => Ok(Value::Null),
    }
}

fn read_json(path: &Path) -> Result<Value, ReportError> {
    serde_json::from_str(&read(path)?).map_err(|error| ReportError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
