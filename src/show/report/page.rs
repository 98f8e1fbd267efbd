//! The content of the page, in the form that its template needs.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{ReportError, Run, Running, Scored};
use crate::data::{DatasetSpec, Split, Validation};
use crate::model::network::{BlockChoice, Network, NetworkKind};
use crate::model::summary::grouped;
use crate::run::history::EpochRecord;
use crate::run::schedule::in_short;
use crate::score::ranking::Prediction;
use crate::score::scores::{MOST_IN_A_MATRIX, Scores};
use crate::show::pictures;
use crate::show::plot::has_moving_rate;
use crate::show::raster::PictureError;
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

/// A number at the top of the page.
struct Figure {
    name: &'static str,
    value: String,
    note: String,
}

struct EpochRow {
    cells: Vec<String>,
}

struct ClassRow<'a> {
    name: &'a str,
    images: usize,
    /// In percent.
    acc: f64,
    precision: String,
}

struct ConfusionRow<'a> {
    truth: &'a str,
    predicted: &'a str,
    images: usize,
}

struct MatrixRow<'a> {
    name: &'a str,
    cells: Vec<MatrixCell>,
}

struct MatrixCell {
    count: usize,
    /// Share of the row's images, 0 to 1.
    share: f64,
    correct: bool,
    hint: String,
}

/// An image with its most likely classes.
struct Guessed<'a> {
    image: String,
    truth: &'a str,
    correct: bool,
    guesses: Vec<Guess<'a>>,
}

struct Guess<'a> {
    name: &'a str,
    /// In percent.
    percent: f64,
    correct: bool,
}

struct Mistaken<'a> {
    image: String,
    index: usize,
    truth: &'a str,
    predicted: &'a str,
    percent: f64,
}

/// The share of the run's time that one kind of work took.
struct Share {
    name: &'static str,
    class: &'static str,
    seconds: String,
    percent: f64,
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
        let network = network(run).map_or("a network".to_owned(), |network| network.to_string());
        Ok(Self {
            title: format!("{network} on {}", run.setting("dataset")),
            subtitle: subtitle(run),
            now,
            figures: figures(run, spec, scores, validation),
            curves: curves(run.history.records()),
            epochs: run.history.records().iter().map(epoch_row).collect(),
            class_names: &spec.class_names,
            classes: class_rows(spec, scores),
            matrix: matrix(&spec.class_names, scores),
            confusions: confusions(&spec.class_names, scores),
            scored: grouped(scores.images),
            evaluated: scores.images > 0,
            kind: validation.name(),
            predictions: tutorial_predictions(scored, spec, split)?,
            mistakes: mistakes(scored, spec, split)?,
            timing: timing(&run.result["timing"]),
            settings: settings(&run.config),
            environment: environment(&run.env),
            command: command_line(&run.env),
            again: format!(
                "resnet-xla -c {} --out-dir runs/again",
                quoted(&format!("{}/config.toml", run.name))
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

fn figures(run: &Run, spec: &DatasetSpec, scores: &Scores, validation: &Validation) -> Vec<Figure> {
    let mut figures = Vec::new();
    if scores.images > 0 {
        figures.extend(accuracies(scores, validation));
    }
    if let Some(last) = run.history.records().last() {
        figures.push(Figure {
            name: "validation loss",
            value: last
                .val_loss
                .map_or("–".to_owned(), |loss| format!("{loss:.4}")),
            note: format!("training {:.4}", last.loss),
        });
    }
    if let Some(best) = run.history.best() {
        figures.push(Figure {
            name: "best epoch",
            value: (best.epoch + 1).to_string(),
            note: format!("accuracy {}", percent(best.val_acc)),
        });
    }
    figures.extend(parameters(run, spec));
    let seconds: f64 = run
        .history
        .records()
        .iter()
        .map(|record| record.seconds)
        .sum();
    figures.push(Figure {
        name: "time",
        value: duration(seconds),
        note: match run.history.records().last() {
            Some(last) => format!("{} images/s", grouped(last.images_per_sec.round() as usize)),
            None => String::new(),
        },
    });
    figures
}

fn accuracies(scores: &Scores, validation: &Validation) -> [Figure; 2] {
    let accuracy = Figure {
        name: match validation.held_out {
            true => "validation accuracy",
            false => "test accuracy",
        },
        value: percent(scores.accuracy()),
        note: format!("of {} images", grouped(scores.images)),
    };
    let top5 = Figure {
        name: "top-5 accuracy",
        value: percent(scores.top5()),
        note: "of five guesses".to_owned(),
    };
    [accuracy, top5]
}

fn parameters(run: &Run, spec: &DatasetSpec) -> Option<Figure> {
    let layout = network(run)?.layout(spec.classes(), &[]).ok()?;
    Some(Figure {
        name: "parameters",
        value: grouped(layout.total_parameters()),
        note: format!("{} trainable", grouped(layout.trainable_parameters())),
    })
}

/// The network of `run`; a run from before there were several does not name its kind or its numbers.
fn network(run: &Run) -> Option<Network> {
    let kind = NetworkKind::from_str(&run.setting("model"), false);
    Some(Network {
        kind: kind.unwrap_or_default(),
        depth: run.setting("depth").parse().ok()?,
        widths: run.setting("widths").parse().unwrap_or_default(),
        stage_units: run.setting("stage-units").parse().unwrap_or_default(),
        block: BlockChoice::from_str(&run.setting("block"), false).unwrap_or_default(),
    })
}

/// The history as columns; numbers that are not finite become null.
fn curves(records: &[EpochRecord]) -> String {
    let column = |value: fn(&EpochRecord) -> Option<f64>| -> Vec<Option<f64>> {
        let finite = |number: &f64| number.is_finite();
        records
            .iter()
            .map(|record| value(record).filter(finite))
            .collect()
    };
    let columns = json!({
        "epoch": records.iter().map(|record| record.epoch + 1).collect::<Vec<_>>(),
        "acc": column(|record| Some(record.acc)),
        "val_acc": column(|record| record.val_acc),
        "loss": column(|record| Some(record.loss)),
        "val_loss": column(|record| record.val_loss),
        "lr": column(|record| Some(record.lr)),
        "lr_moves": has_moving_rate(records),
    });
    // Numbers, a flag and plain keys: nothing in it can end a script element.
    columns.to_string()
}

fn epoch_row(record: &EpochRecord) -> EpochRow {
    let optional =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
    EpochRow {
        cells: vec![
            (record.epoch + 1).to_string(),
            format!("{:.4}", record.loss),
            format!("{:.4}", record.acc),
            optional(record.val_loss),
            optional(record.val_acc),
            in_short(record.lr),
            duration(record.seconds),
            format!("{:.0}", record.images_per_sec),
            format!("{:.1} %", 100.0 * record.input_wait_frac),
        ],
    }
}

fn class_rows<'a>(spec: &'a DatasetSpec, scores: &Scores) -> Vec<ClassRow<'a>> {
    let all = scores.classes();
    let shown = match all.len() <= MOST_IN_A_MATRIX {
        true => (0..all.len()).collect(),
        false => scores.worst_classes(MOST_IN_A_MATRIX),
    };
    let rows = shown.into_iter().map(|class| ClassRow {
        name: &spec.class_names[class],
        images: all[class].images,
        acc: 100.0 * all[class].acc.unwrap_or(0.0),
        precision: all[class].precision.map_or("–".to_owned(), percent),
    });
    rows.collect()
}

fn confusions<'a>(names: &'a [String], scores: &Scores) -> Vec<ConfusionRow<'a>> {
    let pairs = scores.confusions(MOST_IN_A_MATRIX).into_iter();
    let rows = pairs.map(|pair| ConfusionRow {
        truth: &names[pair.truth],
        predicted: &names[pair.predicted],
        images: pair.images,
    });
    rows.collect()
}

fn matrix<'a>(names: &'a [String], scores: &Scores) -> Vec<MatrixRow<'a>> {
    let rows = scores.matrix().unwrap_or_default();
    let rows = rows.into_iter().enumerate();
    rows.map(|(truth, counts)| {
        let images: usize = counts.iter().sum();
        let cells = counts
            .iter()
            .enumerate()
            .map(|(predicted, &count)| MatrixCell {
                count,
                share: count as f64 / images.max(1) as f64,
                correct: truth == predicted,
                hint: format!(
                    "{count} of {images} images of class {} were classified as {}",
                    names[truth], names[predicted]
                ),
            });
        MatrixRow {
            name: &names[truth],
            cells: cells.collect(),
        }
    })
    .collect()
}

fn tutorial_predictions<'a>(
    scored: &Scored,
    spec: &'a DatasetSpec,
    split: &Split,
) -> Result<Vec<Guessed<'a>>, ReportError> {
    let names = &spec.class_names;
    let shown = scored.guesses.iter().zip(split.pixels()).zip(&split.labels);
    shown
        .map(|((guesses, image), label)| {
            let truth = usize::from(*label);
            let guess = |prediction: &Prediction| Guess {
                name: &names[prediction.class],
                percent: 100.0 * prediction.probability,
                correct: prediction.class == truth,
            };
            Ok(Guessed {
                image: data_uri(image, spec.side)?,
                truth: &names[truth],
                correct: guesses[0].class == truth,
                guesses: guesses.iter().map(guess).collect(),
            })
        })
        .collect()
}

fn mistakes<'a>(
    scored: &Scored,
    spec: &'a DatasetSpec,
    split: &Split,
) -> Result<Vec<Mistaken<'a>>, ReportError> {
    let names = &spec.class_names;
    scored
        .mistakes
        .iter()
        .map(|mistake| {
            Ok(Mistaken {
                image: data_uri(split.image(mistake.index), spec.side)?,
                index: mistake.index,
                truth: &names[mistake.truth],
                predicted: &names[mistake.predicted.class],
                percent: 100.0 * mistake.predicted.probability,
            })
        })
        .collect()
}

/// An image as a PNG in a `data:` URL.
fn data_uri(image: &[u8], side: usize) -> Result<String, PictureError> {
    let png = pictures::image_png(image, side)?;
    Ok(format!("data:image/png;base64,{}", BASE64.encode(png)))
}

/// How the run's time was spent, from `result.json`.
fn timing(timing: &Value) -> Vec<Share> {
    let kinds = [
        ("training steps", "compute", "compute_s"),
        ("between steps", "between", "between_steps_s"),
        ("waiting for input", "input", "input_s"),
        ("evaluation", "evaluation", "evaluation_s"),
        ("checkpoints", "checkpoint", "checkpoint_s"),
        ("plots and report", "report", "report_s"),
    ]
    .map(|(name, class, key)| (name, class, timing[key].as_f64().unwrap_or(0.0)));
    let total: f64 = kinds.iter().map(|(.., seconds)| seconds).sum();
    if total <= 0.0 {
        return Vec::new();
    }
    kinds
        .map(|(name, class, seconds)| Share {
            name,
            class,
            seconds: duration(seconds),
            percent: 100.0 * seconds / total,
        })
        .into()
}

fn settings(config: &toml::Table) -> Vec<(String, String)> {
    config
        .iter()
        .map(|(key, value)| (key.clone(), value.to_string().trim_matches('"').to_owned()))
        .collect()
}

fn environment(env: &Value) -> Vec<(String, String)> {
    [
        ("device", "device"),
        ("processor", "cpu"),
        ("cores", "cores"),
        ("memory_bytes", "memory_bytes"),
        ("machine", "hostname"),
        ("system", "os"),
        ("kernel", "kernel"),
        ("resnet-xla", "version"),
        ("commit", "git_commit"),
        ("XLA runtime", "runtime"),
        ("compiler", "rustc"),
    ]
    .into_iter()
    .filter_map(|(name, key)| match (&env[key], key) {
        (Value::Null, _) => None,
        (value, "memory_bytes") => {
            let gib = value.as_f64()? / f64::from(1 << 30);
            Some(("memory".to_owned(), format!("{gib:.1} GiB")))
        }
        (Value::String(text), _) => Some((name.to_owned(), text.clone())),
        (value, _) => Some((name.to_owned(), value.to_string())),
    })
    .collect()
}

fn command_line(env: &Value) -> String {
    let words = env["command_line"].as_array().into_iter().flatten();
    let words: Vec<String> = words.filter_map(Value::as_str).map(quoted).collect();
    words.join(" ")
}

/// A word quoted for a shell if needed.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Seconds in the two largest units that fit.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_where_a_shell_would_take_it_apart() {
        let env =
            json!({"command_line": ["./resnet-xla", "--lr-drops=8:0.01", "my run", "it's", ""]});
        assert_eq!(
            command_line(&env),
            r"./resnet-xla --lr-drops=8:0.01 'my run' 'it'\''s' ''"
        );
    }

    #[test]
    fn times_are_in_the_two_largest_units() {
        let shown = [0.04, 9.96, 75.4, 3599.0, 7260.0].map(duration);
        assert_eq!(
            shown,
            ["0.0 s", "10 s", "1 min 15 s", "59 min 59 s", "2 h 1 min"]
        );
    }
}
