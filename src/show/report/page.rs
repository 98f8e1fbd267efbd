//! The content of the page, in the form that its template needs.

use askama::Template;

use super::classes::{self, ClassRow, ConfusionRow, MatrixRow};
use super::epochs::{self, EpochRow};
use super::figures::{self, Figure};
use super::guesses::{self, Guessed, Mistaken};
use super::origin::{self, Share};
use super::units::percent;
use super::{ReportError, Run, Running, Scored};
use crate::data::{DatasetSpec, Validation};
use crate::model::summary::grouped;
use crate::system::text;

/// Seconds between two loads of the page of a running run.
const REFRESH: u64 = 10;

/// The page's content, in the order of `templates/report.html`.
#[derive(Template)]
#[template(path = "report.html")]
pub struct Page<'a> {
    title: String,
    subtitle: String,
    now: Option<Now>,
    figures: Vec<Figure>,
    /// JSON of the curves, for the page's script.
    curves: String,
    epochs: Vec<EpochRow>,
    class_names: &'a [String],
    /// All, or of many the worst.
    classes: Vec<ClassRow<'a>>,
    /// Of groups of classes; empty where there are none.
    groups: Vec<ClassRow<'a>>,
    /// Empty where there are too many classes for one.
    matrix: Vec<MatrixRow<'a>>,
    /// The pairs of classes that are confused most.
    confusions: Vec<ConfusionRow<'a>>,
    scored: String,
    /// Whether images were scored.
    evaluated: bool,
    /// What the images are called that were scored.
    kind: &'static str,
    predictions: Vec<Guessed<'a>>,
    mistakes: Vec<Mistaken<'a>>,
    /// Empty while the run is in progress.
    timing: Vec<Share>,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    command: String,
    again: String,
    config: String,
}

/// Where a running run stands.
pub struct Now {
    epoch: String,
    /// Steps done of the epoch, in percent.
    percent: f64,
    note: String,
    /// Seconds after which a browser loads the page again.
    refresh: u64,
}

impl Now {
    pub fn of(running: &Running) -> Self {
        let Running { done, steps, .. } = *running;
        let mut note = format!("step {} of {}", grouped(done), grouped(steps));
        if let Some(figures) = running.figures {
            note.push_str(&format!(
                " · loss {:.4} · accuracy {} · {} images/s",
                figures.loss,
                percent(figures.acc),
                grouped(figures.images_per_sec.round() as usize)
            ));
        }
        Self {
            epoch: format!("Epoch {} of {}", running.epoch, running.epochs),
            percent: 100.0 * done as f64 / steps.max(1) as f64,
            note,
            refresh: REFRESH,
        }
    }
}

impl<'a> Page<'a> {
    /// Builds the page from a run's files and what was scored on the first images of `validation`.
    pub fn new(
        run: &Run,
        scored: &Scored,
        spec: &'a DatasetSpec,
        validation: &Validation,
        now: Option<Now>,
    ) -> Result<Self, ReportError> {
        let split = &validation.split;
        let scores = &scored.scores;
        let network =
            figures::network(run).map_or("a network".to_owned(), |network| network.to_string());
        Ok(Self {
            title: format!("{network} on {}", run.setting("dataset")),
            subtitle: subtitle(run),
            now,
            figures: figures::figures(run, spec, scores, validation),
            curves: epochs::curves(run.history.records()),
            epochs: run
                .history
                .records()
                .iter()
                .map(epochs::epoch_row)
                .collect(),
            class_names: &spec.class_names,
            classes: classes::class_rows(spec, scores),
            groups: classes::group_rows(spec, scores),
            matrix: classes::matrix(&spec.class_names, scores),
            confusions: classes::confusions(&spec.class_names, scores),
            scored: grouped(scores.images),
            evaluated: scores.images > 0,
            kind: validation.name(),
            predictions: guesses::tutorial_predictions(scored, spec, split)?,
            mistakes: guesses::mistakes(scored, spec, split)?,
            timing: origin::timing(&run.result["timing"]),
            settings: origin::settings(&run.config),
            environment: origin::environment(&run.env),
            command: origin::command_line(&run.env),
            again: format!(
                "resnet-xla -c {} --out-dir runs/again",
                origin::quoted(&format!("{}/config.toml", run.name))
            ),
            config: run.config_text.clone(),
        })
    }
}

fn subtitle(run: &Run) -> String {
    let started = run.env["started"].as_str().unwrap_or("at an unknown time");
    let device = run.env["device"].as_str().unwrap_or("an unknown device");
    let state = match run.result.is_null() {
        true => format!(
            "{} of {} epochs so far",
            run.history.epochs(),
            run.setting("epochs")
        ),
        false => format!("{} epochs", run.history.epochs()),
    };
    format!(
        "{} · {state} · {device} · started {started}",
        text::one_line(&run.name)
    )
}
