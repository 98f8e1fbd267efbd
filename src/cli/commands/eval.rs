//! `eval`: loss, accuracy and confusion matrix of a checkpoint on the test images.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::inputs;
use super::output::{print_json, stdout};
use super::trained;
use crate::cli::args::EvalArgs;
use crate::cli::config::check_split;
use crate::cli::outputs::Output;
use crate::data::{Batch, BatchSource, Dataset, DatasetSpec, Tta, View, groups, npy_header};
use crate::model::summary::grouped;
use crate::predict::trained::{Trained, load};
use crate::run::evaluate::{Evaluation, evaluate, evaluation_steps};
use crate::score::scores::{ClassScore, Confusion, MOST_IN_A_MATRIX, Scores};
use crate::system::files;

/// Most pairs of confused classes in the JSON object.
const MOST_IN_JSON: usize = 1000;
const BATCH_SIZE: usize = 128;

pub fn run(args: &EvalArgs) -> Result<()> {
    if let Some(path) = &args.dump_logits {
        let output = Output {
            by: "--dump-logits",
            path,
            ending: "npy",
        };
        output.check(&inputs::of(&args.from))?;
    }
    let folder = trained::program_folder(&args.from)?;
    let batch_size = match (args.batch_size, &folder) {
        (Some(size), _) => size as usize,
        (None, Some(folder)) => folder.batch_size(),
        (None, None) => BATCH_SIZE,
    };
    let device = trained::open_device(&args.from, folder.as_ref())?;
    check_split(batch_size, device.replicas)?;
    let checkpoint = trained::find(&args.from)?;
    let Dataset { spec, test, .. } = trained::load_data(&args.from, &checkpoint.info)?;
    let test = Arc::new(test);
    let options = trained::options(&args.from);
    let Trained { program, weights } = load(&checkpoint, &options, batch_size, &device, folder)?;
    let views = args.tta.views();
    let score = |view: &View| -> Result<Evaluation> {
        let test = Arc::clone(&test);
        let normalization = checkpoint.info.normalization;
        let source = BatchSource::of_view(test, normalization, batch_size, view.transform);
        let steps = evaluation_steps(&source, args.steps);
        let start = |batch: &Batch| program.eval_step(&weights, batch);
        let evaluation = evaluate(&Arc::new(source), steps, start, |rows| Ok(Some(rows)))?;
        evaluation.context("the evaluation ended early")
    };
    let evaluation = score(&views[0])?;
    if let Some(path) = &args.dump_logits {
        write_npy(path, &evaluation.logits, spec.classes())?;
    }
    let labels = test.labels.to_vec();
    let scores = Scores::of(&evaluation.logits, spec.classes(), &labels);
    let averaged = match &views[1..] {
        [] => None,
        others => {
            let mut logits = weighted(&evaluation.logits, views[0].weight);
            for view in others {
                let more = weighted(&score(view)?.logits, view.weight);
                logits
                    .iter_mut()
                    .zip(more)
                    .for_each(|(sum, more)| *sum += more);
            }
            Some(Averaged {
                views: args.tta,
                scores: Scores::of(&logits, spec.classes(), &labels),
            })
        }
    };
    if args.json {
        print_json(&as_json(&evaluation, &spec, &scores, averaged.as_ref()))
    } else {
        Ok(print_scores(
            &evaluation,
            &spec,
            &scores,
            averaged.as_ref(),
        )?)
    }
}

/// The scores of logits averaged over views of each image.
struct Averaged {
    views: Tta,
    scores: Scores,
}

fn weighted(logits: &[f32], weight: f32) -> Vec<f32> {
    logits.iter().map(|logit| logit * weight).collect()
}

fn print_scores(
    evaluation: &Evaluation,
    spec: &DatasetSpec,
    scores: &Scores,
    averaged: Option<&Averaged>,
) -> io::Result<()> {
    let names = &spec.class_names;
    let mut out = stdout();
    writeln!(out, "images: {}", evaluation.mean.count())?;
    writeln!(out, "loss: {:.3}", evaluation.mean.loss())?;
    writeln!(out, "acc: {:.3}", evaluation.mean.accuracy())?;
    writeln!(out, "top5: {:.3}", scores.top5())?;
    if let Some(Averaged { views, scores }) = averaged {
        writeln!(
            out,
            "acc with --tta {}: {:.3}",
            views.name(),
            scores.accuracy()
        )?;
    }
    if let Some(groups) = groups(spec) {
        let of_groups = scores.groups(&groups.of_class, groups.names.len());
        writeln!(
            out,
            "acc of the {} groups: {:.3}",
            groups.names.len(),
            of_groups.acc
        )?;
    }
    match scores.matrix() {
        Some(matrix) => {
            print_classes(&mut out, names, scores, 0..names.len())?;
            print_matrix(&mut out, names, &matrix)
        }
        None => {
            let (most, all) = (MOST_IN_A_MATRIX, grouped(names.len()));
            writeln!(out, "\nthe {most} worst of {all} classes; --json has all")?;
            print_classes(&mut out, names, scores, scores.worst_classes(most))?;
            print_confusions(&mut out, names, &scores.confusions(most))
        }
    }
}

/// A row for each of `classes`.
fn print_classes(
    out: &mut impl Write,
    names: &[String],
    scores: &Scores,
    classes: impl IntoIterator<Item = usize>,
) -> io::Result<()> {
    let width = width(names);
    writeln!(out, "\n{:<width$}  images    acc  precision", "class")?;
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let all = scores.classes();
    for class in classes {
        let (name, score) = (&names[class], &all[class]);
        let (acc, precision) = (share(score.acc), share(score.precision));
        writeln!(
            out,
            "{name:<width$.width$}  {:>6}  {acc:>5}  {precision:>9}",
            score.images
        )?;
    }
    Ok(())
}

fn print_matrix(out: &mut impl Write, names: &[String], matrix: &[Vec<usize>]) -> io::Result<()> {
    let width = width(names);
    writeln!(out, "\nrows: true class, columns: predicted class")?;
    let heads: Vec<String> = names.iter().map(|name| format!("{name:>5.5}")).collect();
    writeln!(out, "{:<width$} {}", "", heads.join(" "))?;
    for (name, row) in names.iter().zip(matrix) {
        let counts: Vec<String> = row.iter().map(|count| format!("{count:>5}")).collect();
        writeln!(out, "{name:<width$.width$} {}", counts.join(" "))?;
    }
    Ok(())
}

/// The pairs of classes that are confused most, instead of a matrix.
fn print_confusions(
    out: &mut impl Write,
    names: &[String],
    confusions: &[Confusion],
) -> io::Result<()> {
    let width = width(names);
    writeln!(
        out,
        "\n{:<width$}  {:<width$}  images",
        "true class", "taken for"
    )?;
    for pair in confusions {
        let (truth, predicted) = (&names[pair.truth], &names[pair.predicted]);
        writeln!(
            out,
            "{truth:<width$.width$}  {predicted:<width$.width$}  {:>6}",
            pair.images
        )?;
    }
    Ok(())
}

/// The width of the column of class names, in which longer names are cut.
fn width(names: &[String]) -> usize {
    let longest = names.iter().map(|name| name.chars().count()).max();
    longest.unwrap_or(0).clamp(10, 30)
}

/// The class names, with its label behind one that several classes have.
fn keys(names: &[String]) -> impl Iterator<Item = String> {
    let mut classes: HashMap<&str, usize> = HashMap::new();
    for name in names {
        *classes.entry(name).or_default() += 1;
    }
    names
        .iter()
        .enumerate()
        .map(move |(label, name)| match classes[name.as_str()] {
            1 => name.clone(),
            _ => format!("{name} ({label})"),
        })
}

fn as_json(
    evaluation: &Evaluation,
    spec: &DatasetSpec,
    scores: &Scores,
    averaged: Option<&Averaged>,
) -> Value {
    let names = &spec.class_names;
    let classes: serde_json::Map<String, Value> = keys(names)
        .zip(scores.classes())
        .map(|(name, class)| (name, json!(class)))
        .collect();
    let confusions = scores.confusions(MOST_IN_JSON).into_iter().map(|pair| {
        json!({ "true": names[pair.truth], "predicted": names[pair.predicted], "images": pair.images })
    });
    let confusions: Vec<Value> = confusions.collect();
    let of_groups = groups(spec).map(|groups| {
        let scores = scores.groups(&groups.of_class, groups.names.len());
        let each = groups.names.into_iter().zip(scores.groups);
        let each: BTreeMap<&str, ClassScore> = each.collect();
        json!({ "acc": scores.acc, "groups": each })
    });
    json!({
        "images": evaluation.mean.count(),
        "loss": evaluation.mean.loss(),
        "acc": evaluation.mean.accuracy(),
        "top5": scores.top5(),
        "classes": classes,
        "class_names": names,
        "confusion": scores.matrix(),
        "confusions": confusions,
        "groups": of_groups,
        "tta": averaged.map(|Averaged { views, scores }| {
            json!({ "views": views.name(), "acc": scores.accuracy(), "top5": scores.top5() })
        }),
    })
}

/// Writes logits `[N, classes]` as a NumPy file.
fn write_npy(path: &Path, logits: &[f32], classes: usize) -> Result<()> {
    let mut bytes = npy_header([logits.len() / classes, classes]);
    bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
    Ok(files::write_bytes(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_one_name_are_told_apart_by_their_labels() {
        let names = ["owl", "crane", "cat", "crane"].map(str::to_owned);
        let keys: Vec<String> = keys(&names).collect();
        assert_eq!(keys, ["owl", "crane (1)", "cat", "crane (3)"]);
    }
}
