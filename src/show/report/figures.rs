//! The numbers at the top of a run's page.

use clap::ValueEnum;

use super::Run;
use super::units::{duration, percent};
use crate::data::{DatasetSpec, Validation, groups};
use crate::model::network::{BlockChoice, Network, NetworkKind};
use crate::model::summary::grouped;
use crate::run::history::EpochRecord;
use crate::score::scores::Scores;

/// A number at the top of the page.
pub struct Figure {
    pub name: &'static str,
    pub value: String,
    pub note: String,
}

pub fn figures(
    run: &Run,
    spec: &DatasetSpec,
    scores: &Scores,
    validation: &Validation,
) -> Vec<Figure> {
    let mut figures = Vec::new();
    if scores.images > 0 {
        figures.extend(accuracies(scores, validation));
        figures.extend(of_groups(spec, scores));
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
        note: match run.history.records().last().and_then(EpochRecord::rate) {
            Some(rate) => format!("{} images/s", grouped(rate.round() as usize)),
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

/// Of CIFAR-100, whose classes are in groups.
fn of_groups(spec: &DatasetSpec, scores: &Scores) -> Option<Figure> {
    let groups = groups(spec)?;
    let count = groups.names.len();
    Some(Figure {
        name: "group accuracy",
        value: percent(scores.groups(&groups.of_class, count).acc),
        note: format!("of {count} groups of classes"),
    })
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
pub fn network(run: &Run) -> Option<Network> {
    let kind = NetworkKind::from_str(&run.setting("model"), false);
    Some(Network {
        kind: kind.unwrap_or_default(),
        depth: run.setting("depth").parse().ok()?,
        widths: run.setting("widths").parse().unwrap_or_default(),
        stage_units: run.setting("stage-units").parse().unwrap_or_default(),
        block: BlockChoice::from_str(&run.setting("block"), false).unwrap_or_default(),
    })
}
