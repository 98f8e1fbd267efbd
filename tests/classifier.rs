//! The library's classifier gives what the program prints, and says what is wrong in types.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use program::runs::quick_run;
use program::{COMPILE_FAST, succeed, text, xla_flags};
use resnet_xla::device::runtime;
use resnet_xla::predict::{Classifier, Image, PredictError};
use serde_json::Value;
use tempfile::TempDir;

/// One step of the smallest network.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    runtime::quiet(0);
    runtime::add_xla_flags(&xla_flags(COMPILE_FAST));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&quick_run(&out, "--max-steps 1 --eval-steps 1"));
    folder
});

fn trained() -> PathBuf {
    RUN.path().join("run")
}

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    folder.join(name)
}

/// What the program says of `pictures`: a JSON object each.
fn predicted(pictures: &[&Path]) -> Vec<Value> {
    let run = trained();
    let out = RUN.path().join("out.png");
    let mut words = vec!["predict", "--device", "cpu", "--jsonl"];
    words.extend(["--checkpoint", text(&run), "--out", text(&out)]);
    words.extend(pictures.iter().map(|path| text(path)));
    let lines = succeed(&words);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn one_picture_and_several_are_classified_as_the_program_does() {
    let names = ["chart.png", "exif_orientation_6.jpg", "cmyk.jpg"];
    let paths = names.map(fixture);
    let expected = predicted(&[&paths[0], &paths[1], &paths[2]]);

    let classifier = Classifier::open(trained()).unwrap();
    let images: Vec<Image> = paths
        .iter()
        .map(|path| classifier.read(path).unwrap())
        .collect();
    let together = classifier
        .classify_all(&images.iter().collect::<Vec<_>>())
        .unwrap();
    for ((image, together), expected) in images.iter().zip(&together).zip(&expected) {
        for ranking in [together, &classifier.classify(image).unwrap()] {
            assert_eq!(ranking.len(), 10);
            let sum: f64 = ranking.iter().map(|guess| guess.probability).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            let best = &expected["predictions"][0];
            assert_eq!(best["class"], classifier.class_names()[ranking[0].class]);
            let probability = best["probability"].as_f64().unwrap();
            assert!((ranking[0].probability - probability).abs() < 1e-5);
        }
    }
}

#[test]
fn errors_have_types() {
    let empty = tempfile::tempdir().unwrap();
    for missing in [empty.path().join("x.safetensors"), empty.path().to_owned()] {
        let error = Classifier::open(&missing).err().unwrap();
        assert!(matches!(error, PredictError::Checkpoint(_)), "{error}");
        assert!(error.to_string().contains(text(&missing)), "{error}");
    }
    let classifier = Classifier::open(trained()).unwrap();
    let notes = empty.path().join("notes.png");
    fs::write(&notes, "not a picture").unwrap();
    let error = classifier.read(&notes).unwrap_err();
    assert!(matches!(error, PredictError::Picture(_)), "{error}");

    let error = Image::from_rgb(2, vec![0; 11]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an image of 2 x 2 pixels has 2 x 2 x 3 values, got 11"
    );
    // Its number of values is 0 modulo 2^64.
    let error = Image::from_rgb(1 << 32, Vec::new()).unwrap_err();
    assert!(matches!(error, PredictError::Pixels { .. }), "{error}");
    let small = Image::from_rgb(2, vec![0; 12]).unwrap();
    let error = classifier.classify(&small).unwrap_err();
    let expected = "the network takes images of 32 x 32 pixels, got 2 x 2";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_example_prints_the_class_of_a_picture() {
    // Beside `deps`, where this test is.
    let this = std::env::current_exe().unwrap();
    let example = this.ancestors().nth(2).unwrap().join("examples/classify");
    if !example.exists() {
        println!("skipped: {} was not built", example.display());
        return;
    }
    let (run, chart) = (trained(), fixture("chart.png"));
    let output = Command::new(example).args([&run, &chart]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let best = &predicted(&[&chart])[0]["predictions"][0];
    let expected = format!("{}: {}, ", chart.display(), best["class"].as_str().unwrap());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with(&expected), "{printed}");
}
