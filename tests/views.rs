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
fn the_accuracy_with_flips_is_that_of_the_mean_logits_of_image_and_mirror_image() {
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
    let mean: Vec<f32> = plain
        .iter()
        .zip(&other)
        .map(|(a, b)| 0.5 * a + 0.5 * b)
        .collect();
    // The network does not see both alike, or nothing would be tested.
    assert_ne!(plain, other);

    let scores = eval(&run, &["--tta", "flip"]);
    assert_eq!(scores["acc"], accuracy(&plain, &labels));
    assert_eq!(scores["tta"]["views"], "flip");
    assert_eq!(scores["tta"]["acc"], accuracy(&mean, &labels));
    assert_eq!(eval(&run, &[])["tta"], Value::Null);
    let crops = eval(&run, &["--tta", "crops", "--steps", "2"]);
    assert_eq!(crops["images"], 100);
    assert!(crops["tta"]["acc"].is_f64());
}
