//! `eval`: loss and accuracy of a checkpoint on the test images.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::trained::{self, Trained};
use crate::cli::EvalArgs;
use crate::data::{BatchSource, CLASSES};
use crate::evaluate::{evaluate, evaluation_steps};

pub fn run(args: &EvalArgs) -> Result<()> {
    let device = trained::open_device(&args.from)?;
    let checkpoint = trained::find(&args.from)?;
    let dataset = trained::load_data(&args.from, &checkpoint.info)?;
    let batch_size = args.batch_size as usize;
    let Trained { program, weights } = trained::load(&checkpoint, &args.from, batch_size, &device)?;
    let source = Arc::new(BatchSource::evaluation(
        Arc::new(dataset.test),
        checkpoint.info.normalization,
        batch_size,
    ));
    let mut logits: Vec<f32> = Vec::new();
    let steps = evaluation_steps(&source, args.steps);
    let mean = evaluate(&source, steps, |batch| {
        let (metrics, rows) = program.eval_step(&weights, batch)?;
        // Padding rows stand behind the images.
        logits.extend(&rows[..batch.count * CLASSES]);
        Ok(Some(metrics))
    })?
    .context("the evaluation ended early")?;
    if let Some(path) = &args.dump_logits {
        write_npy(path, &logits)?;
    }
    println!("images: {}", mean.count());
    println!("loss: {:.3}", mean.loss());
    println!("acc: {:.3}", mean.accuracy());
    Ok(())
}

/// Writes logits `[N, classes]` as a NumPy file.
fn write_npy(path: &Path, logits: &[f32]) -> Result<()> {
    let rows = (logits.len() / CLASSES) as i64;
    let literal = xla::Literal::vec1(logits).reshape(&[rows, CLASSES as i64])?;
    literal
        .write_npy(path)
        .with_context(|| format!("cannot write the logits to {}", path.display()))
}
