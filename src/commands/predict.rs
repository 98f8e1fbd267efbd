//! `predict`: class names for the first ten test images, or for pictures of the user's.

use std::sync::Arc;

use anyhow::{Context, Result};
use ndarray::{Array1, Array4, Axis, s};

use super::trained::{self, Trained};
use crate::checkpoint::CheckpointInfo;
use crate::cli::PredictArgs;
use crate::data::{Batch, BatchSource, CLASS_NAMES, SIDE, Split};
use crate::pictures::{self, Caption, Tile, Tone};
use crate::predict::{Prediction, predictions, read_picture};

/// Test images to classify when no picture is named, as in the tutorial.
const TEST_IMAGES: usize = 10;
/// Images in a row of the picture.
const COLUMNS: usize = 5;

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
        first_test_images(args, &checkpoint.info)?
    } else {
        pictures_of_the_user(args)?
    };
    let count = subjects.names.len();
    let Trained { program, weights } = trained::load(&checkpoint, &args.from, count, &device)?;
    let split = Split {
        labels: Array1::zeros(count),
        images: subjects.images.clone(),
    };
    let source = BatchSource::evaluation(Arc::new(split), checkpoint.info.normalization, count);
    let mut batch = Batch::default();
    source.fill(0, &mut batch);
    let logits = program.predict_step(&weights, &batch.images)?;
    let predictions = predictions(&logits, count)?;
    print_table(&subjects, &predictions);
    save_picture(args, &subjects, &predictions)?;
    println!("\npicture: {}", args.out.display());
    Ok(())
}

fn first_test_images(args: &PredictArgs, info: &CheckpointInfo) -> Result<Subjects> {
    let test = trained::load_data(&args.from, info)?.test;
    let count = TEST_IMAGES.min(test.len());
    Ok(Subjects {
        images: test.images.slice(s![..count, .., .., ..]).to_owned(),
        names: (0..count)
            .map(|index| format!("test image {index}"))
            .collect(),
        labels: Some(test.labels.slice(s![..count]).to_owned()),
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

fn print_table(subjects: &Subjects, predictions: &[Prediction]) {
    let width = subjects.names.iter().map(String::len).max().unwrap_or(0);
    for (index, (name, prediction)) in subjects.names.iter().zip(predictions).enumerate() {
        let class = CLASS_NAMES[prediction.class];
        let percent = 100.0 * prediction.probability;
        let truth = match true_class(subjects, index) {
            Some(truth) => format!("  true: {}", CLASS_NAMES[truth]),
            None => String::new(),
        };
        println!("{name:<width$}  {class:<10} {percent:>5.1} %{truth}");
    }
}

fn true_class(subjects: &Subjects, index: usize) -> Option<usize> {
    let labels = subjects.labels.as_ref()?;
    labels.get(index).map(|&label| usize::from(label))
}

fn save_picture(args: &PredictArgs, subjects: &Subjects, predictions: &[Prediction]) -> Result<()> {
    let pixels = subjects
        .images
        .as_slice()
        .context("images are not in standard layout")?;
    let tiles: Vec<_> = pixels
        .chunks_exact(SIDE * SIDE * 3)
        .zip(predictions)
        .enumerate()
        .map(|(index, (image, prediction))| Tile {
            image,
            side: SIDE,
            caption: captions(prediction, true_class(subjects, index)),
        })
        .collect();
    Ok(pictures::save_grid(&args.out, &tiles, COLUMNS)?)
}

fn captions(prediction: &Prediction, truth: Option<usize>) -> Vec<Caption> {
    let percent = 100.0 * prediction.probability;
    let tone = match truth {
        None => Tone::Neutral,
        Some(truth) if truth == prediction.class => Tone::Correct,
        Some(_) => Tone::Wrong,
    };
    let mut lines = vec![Caption {
        text: format!("{} {percent:.0} %", CLASS_NAMES[prediction.class]),
        tone,
    }];
    lines.extend(truth.map(|truth| Caption {
        text: format!("true: {}", CLASS_NAMES[truth]),
        tone: Tone::Neutral,
    }));
    lines
}
