//! Evaluation averaged over views of each image.

mod program;

use std::path::Path;
use std::sync::Arc;

use program::in_process::open_cpu;
use program::runs::quick_run;
use program::{COMPILE_FAST, succeed, text};
use resnet_xla::data::{self, BatchSource, DatasetKind, PictureOptions, Split};
use resnet_xla::model::choose::{self, ModelSettings};
use resnet_xla::model::program::Program;
use resnet_xla::run::checkpoint;
use resnet_xla::run::evaluate::evaluate;
use serde_json::Value;

const BATCH: usize = 50;

fn eval(run: &Path, more: &[&str]) -> Value {
    let args = ["eval", "--json", "--batch-size", "50", "--device", "cpu"];
    let from = ["--checkpoint", text(run)];
    serde_json::from_str(&succeed(&[&args, &from[..], more].concat())).unwrap()
}

/// Every image with left and right swapped.
fn mirrored(split: &Split) -> Split {
    let mut images = split.images.to_array();
    images.invert_axis(ndarray::Axis(2));
    Split {
        images: images.into(),
        labels: split.labels.clone(),
    }
}

/// Every image moved by `by` pixels (at most one) along its rows and columns, with the outermost pixels as mirrors.
fn shifted(split: &Split, by: i64) -> Split {
    let images = split.images.to_array();
    let last = images.dim().1 as i64 - 1;
    let from = |at: usize| (last - (last - (at as i64 + by).abs()).abs()) as usize;
    let moved = ndarray::Array4::from_shape_fn(images.dim(), |(number, y, x, channel)| {
        images[[number, from(y), from(x), channel]]
    });
    Split {
        images: moved.into(),
        labels: split.labels.clone(),
    }
}

/// The sum of rows of logits, each with its weight.
fn weighted_sum(parts: &[(f32, &[f32])]) -> Vec<f32> {
    let sum = |index: usize| {
        parts
            .iter()
            .map(move |(weight, logits)| weight * logits[index])
    };
    let len = parts[0].1.len();
    (0..len).map(|index| sum(index).sum()).collect()
}

/// The share of rows whose largest logit is the label's.
fn accuracy(logits: &[f32], labels: &[u16]) -> f64 {
    let rows = logits.chunks(10).zip(labels);
    let right = rows.filter(|(row, label)| {
        let largest = (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        largest == Some(usize::from(**label))
    });
    right.count() as f64 / labels.len() as f64
}

#[test]
fn the_accuracy_with_views_is_that_of_the_mean_logits_of_images_moved_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(
        &run,
        "--epochs 1 --max-steps 20 --batch-size 32",
    ));

    let test = data::load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap()
    .test;
    let path = checkpoint::resolve(&run).unwrap();
    let info = checkpoint::load_info(&path).unwrap();
    let settings = ModelSettings::tutorial(11, BATCH);
    let device = open_cpu(1, COMPILE_FAST);
    let program = Program::new(&device, choose::build(&settings, device.kind).unwrap());
    let network = checkpoint::load_network(&path, program.layout()).unwrap();
    let weights = program.upload_weights(&network).unwrap();
    let logits = |split: &Split| {
        let split = Arc::new(split.clone());
        let source = Arc::new(BatchSource::evaluation(split, info.normalization, BATCH));
        let start = |batch: &data::Batch| program.eval_step(&weights, batch);
        let steps = source.steps_per_epoch();
        let evaluation = evaluate(&source, steps, start, |rows| Ok(Some(rows)));
        evaluation.unwrap().unwrap().logits
    };
    let labels = test.labels.to_vec();
    let (plain, other) = (logits(&test), logits(&mirrored(&test)));
    // The network does not see both alike, or nothing would be tested.
    assert_ne!(plain, other);
    let flips = weighted_sum(&[(0.5, &plain[..]), (0.5, &other[..])]);

    let scores = eval(&run, &["--tta", "flip"]);
    assert_eq!(scores["acc"], accuracy(&plain, &labels));
    assert_eq!(scores["tta"]["views"], "flip");
    assert_eq!(scores["tta"]["acc"], accuracy(&flips, &labels));
    assert_eq!(eval(&run, &[])["tta"], Value::Null);

    // The six views of airbench94 (`infer_mirror_translate`): half of the mean is the image in its place, with its mirror image.
    let moved = [-1, 1].map(|by| {
        let moved = shifted(&test, by);
        [logits(&moved), logits(&mirrored(&moved))]
    });
    let moved = moved
        .as_flattened()
        .iter()
        .map(|logits| (0.125, &logits[..]));
    let views: Vec<_> = [(0.25, &plain[..]), (0.25, &other[..])]
        .into_iter()
        .chain(moved)
        .collect();
    let scores = eval(&run, &["--tta", "crops"]);
    assert_eq!(scores["acc"], accuracy(&plain, &labels));
    assert_eq!(
        scores["tta"]["acc"],
        accuracy(&weighted_sum(&views), &labels)
    );
    let first = eval(&run, &["--tta", "crops", "--steps", "2"]);
    assert_eq!(first["images"], 100);
}
