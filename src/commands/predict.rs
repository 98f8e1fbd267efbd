//! `predict`: class names for test images, or for pictures of the user's.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use ndarray::{Array1, Array4, Axis};
use serde_json::{Value, json};

use super::output::{print_json, stdout};
use super::trained::{self, Trained};
use crate::checkpoint::CheckpointInfo;
use crate::cli::PredictArgs;
use crate::config::ConfigError;
use crate::data::{Batch, BatchSource, CLASS_NAMES, CLASSES, IMAGE_LEN, SIDE, Split};
use crate::pictures::{self, Tile};
use crate::predict::{Prediction, predictions, read_picture};
use crate::text;

/// Test images to classify when none is named, as in the tutorial.
const TEST_IMAGES: usize = 10;
/// Classes named for each image.
const GUESSES: usize = 3;

/// The classes of one image by falling probability.
type Ranking = [Prediction; CLASSES];

/// Images to classify, with what is known of each.
struct Subjects {
    images: Array4<u8>,
    names: Vec<String>,
    /// The true classes, where they are known.
    labels: Option<Array1<u8>>,
}

pub fn run(args: &PredictArgs) -> Result<()> {
    let device = trained::open_device(&args.from)?;
    let checkpoint = trained::find(&args.from)?;
    let subjects = if args.images.is_empty() {
        test_images(args, &checkpoint.info)?
    } else {
        pictures_of_the_user(args)?
    };
    let count = subjects.names.len();
    let batch_size = count.next_multiple_of(device.replicas);
    let Trained { program, weights } = trained::load(&checkpoint, &args.from, batch_size, &device)?;
    let split = Split {
        labels: Array1::zeros(count),
        images: subjects.images.clone(),
    };
    let normalization = checkpoint.info.normalization;
    let source = BatchSource::evaluation(Arc::new(split), normalization, batch_size);
    let mut batch = Batch::default();
    source.fill(0, &mut batch);
    let logits = program.predict_step(&weights, &batch.images)?;
    let rankings = predictions(&logits, count)?;
    save_picture(args, &subjects, &rankings)?;
    if args.json {
        print_json(&as_json(&subjects, &rankings))?;
        log::info!("picture: {}", args.out.display());
        return Ok(());
    }
    print_table(&subjects, &rankings)?;
    writeln!(stdout(), "\npicture: {}", text::shown(&args.out))?;
    Ok(())
}

fn test_images(args: &PredictArgs, info: &CheckpointInfo) -> Result<Subjects> {
    let test = trained::load_data(&args.from, info)?.test;
    let indices = match args.index.is_empty() {
        true => (0..TEST_IMAGES.min(test.len())).collect(),
        false => args.index.clone(),
    };
    if let Some(index) = indices.iter().find(|index| **index >= test.len()) {
        return Err(ConfigError::Index {
            got: *index,
            last: test.len() - 1,
        }
        .into());
    }
    Ok(Subjects {
        images: test.images.select(Axis(0), &indices),
        labels: Some(test.labels.select(Axis(0), &indices)),
        names: indices
            .iter()
            .map(|index| format!("test image {index}"))
            .collect(),
    })
}

fn pictures_of_the_user(args: &PredictArgs) -> Result<Subjects> {
    let mut images = Array4::zeros((args.images.len(), SIDE, SIDE, 3));
    for (path, mut image) in args.images.iter().zip(images.axis_iter_mut(Axis(0))) {
        image.assign(&read_picture(path)?);
    }
    let names = args.images.iter().map(|path| path.display().to_string());
    Ok(Subjects {
        images,
        names: names.collect(),
        labels: None,
    })
}

fn print_table(subjects: &Subjects, rankings: &[Ranking]) -> io::Result<()> {
    let mut out = stdout();
    let names: Vec<_> = subjects.names.iter().map(|n| text::one_line(n)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    for (index, (name, ranking)) in names.iter().zip(rankings).enumerate() {
        let guesses: Vec<String> = ranking[..GUESSES].iter().map(guess).collect();
        let truth = match true_class(subjects, index) {
            Some(truth) => format!(" true: {}", CLASS_NAMES[truth]),
            None => String::new(),
        };
        writeln!(out, "{name:<width$} {}{truth}", guesses.join(" "))?;
    }
    Ok(())
}

fn guess(guess: &Prediction) -> String {
    let percent = 100.0 * guess.probability;
    format!("{:>10} {percent:>3.0}%", CLASS_NAMES[guess.class])
}

fn as_json(subjects: &Subjects, rankings: &[Ranking]) -> Value {
    let images = subjects.names.iter().zip(rankings).enumerate();
    images
        .map(|(index, (name, ranking))| {
            let guesses = ranking[..GUESSES].iter().map(|guess| {
                json!({"class": CLASS_NAMES[guess.class], "probability": guess.probability})
            });
            json!({
                "image": name,
                "predictions": guesses.collect::<Vec<_>>(),
                "true": true_class(subjects, index).map(|truth| CLASS_NAMES[truth]),
            })
        })
        .collect()
}

fn true_class(subjects: &Subjects, index: usize) -> Option<usize> {
    let labels = subjects.labels.as_ref()?;
    labels.get(index).map(|&label| usize::from(label))
}

fn save_picture(args: &PredictArgs, subjects: &Subjects, rankings: &[Ranking]) -> Result<()> {
    let pixels = subjects
        .images
        .as_slice()
        .context("images are not in standard layout")?;
    let tiles: Vec<_> = pixels
        .chunks_exact(IMAGE_LEN)
        .zip(rankings)
        .enumerate()
        .map(|(index, (image, ranking))| Tile {
            image,
            side: SIDE,
            caption: pictures::prediction_captions(ranking[0], true_class(subjects, index)),
        })
        .collect();
    Ok(pictures::save_grid(
        &args.out,
        &tiles,
        pictures::PREDICTION_COLUMNS,
    )?)
}
