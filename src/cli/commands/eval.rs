//! `eval`: loss, accuracy and confusion matrix of a checkpoint on the test images.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::inputs;
use super::output::{print_json, stdout};
use super::trained::{self, Trained};
use crate::cli::args::EvalArgs;
use crate::cli::config::check_split;
use crate::cli::outputs::Output;
use crate::data::{Batch, BatchSource, Dataset, DatasetSpec, Tta, View};
use crate::run::evaluate::{Evaluation, evaluate, evaluation_steps};
use crate::score::scores::Scores;
use crate::system::files;

const BATCH_SIZE: usize = 128;

pub fn run(args: &EvalArgs) -> Result<()> {
    if let Some(path) = &args.dump_logits {
        let output = Output {
            by: "--dump-logits",
            path,
            ending: "npy",
            note: "",
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
    let Trained { program, weights } =
        trained::load(&checkpoint, &args.from, batch_size, &device, folder)?;
    let views = args.tta.views();
    let score = |view: &View| -> Result<Evaluation> {
        let test = Arc::clone(&test);
        let normalization = checkpoint.info.normalization;
        let source = BatchSource::of_view(test, normalization, batch_size, view.transform);
        let steps = evaluation_steps(&source, args.steps);
        let step = |batch: &Batch| program.eval_step(&weights, batch).map(Some);
        evaluate(&Arc::new(source), steps, step)?.context("the evaluation ended early")
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
    writeln!(out, "\n{:<10}  images    acc  precision", "class")?;
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    for (name, class) in names.iter().zip(scores.classes()) {
        let (acc, precision) = (share(class.acc), share(class.precision));
        writeln!(
            out,
            "{name:<10}  {:>6}  {acc:>5}  {precision:>9}",
            class.images
        )?;
    }
    writeln!(out, "\nrows: true class, columns: predicted class")?;
    let heads: Vec<String> = names.iter().map(|name| format!("{name:>5.5}")).collect();
    writeln!(out, "{:<10} {}", "", heads.join(" "))?;
    for (name, row) in names.iter().zip(&scores.confusion) {
        let counts: Vec<String> = row.iter().map(|count| format!("{count:>5}")).collect();
        writeln!(out, "{name:<10} {}", counts.join(" "))?;
    }
    Ok(())
}

fn as_json(
    evaluation: &Evaluation,
    spec: &DatasetSpec,
    scores: &Scores,
    averaged: Option<&Averaged>,
) -> Value {
    let names = &spec.class_names;
    let classes: serde_json::Map<String, Value> = names
        .iter()
        .zip(scores.classes())
        .map(|(name, class)| (name.clone(), json!(class)))
        .collect();
    json!({
        "images": evaluation.mean.count(),
        "loss": evaluation.mean.loss(),
        "acc": evaluation.mean.accuracy(),
        "top5": scores.top5(),
        "classes": classes,
        "class_names": names,
        "confusion": scores.confusion,
        "tta": averaged.map(|Averaged { views, scores }| {
            json!({ "views": views.name(), "acc": scores.accuracy(), "top5": scores.top5() })
        }),
    })
}

/// Writes logits `[N, classes]` as a NumPy file.
fn write_npy(path: &Path, logits: &[f32], classes: usize) -> Result<()> {
    let rows = (logits.len() / classes) as i64;
    let literal = xla::Literal::vec1(logits).reshape(&[rows, classes as i64])?;
    // The literal writes to a path in place and follows links. A temporary file first makes the final write atomic.
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let written = folder.path().join("logits.npy");
    literal.write_npy(&written)?;
    let bytes = fs::read(&written).context("reading what was just written")?;
    Ok(files::write_bytes(path, &bytes)?)
}
