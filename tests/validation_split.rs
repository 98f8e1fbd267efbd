//! Training images that are held out: validated on and not trained on, in every part of a run.

mod program;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use program::in_process::open_cpu;
use program::runs::quick_run;
use program::{COMPILE_FAST, fail, run, succeed, text};
use resnet_xla::data::{self, Batch, BatchSource, DatasetKind, Normalization, PictureOptions};
use resnet_xla::model::choose::{self, ModelSettings};
use resnet_xla::model::initialise::initial_state;
use resnet_xla::model::program::Program;
use resnet_xla::run::checkpoint::load_newest;
use resnet_xla::run::evaluate::evaluate;
use serde_json::Value;

/// Of the 2,000 training images of the sample, one batch of 8 is left: an epoch is one step.
const ONE_BATCH: &str = "--validation-split 1992 --no-shuffle --augment none --eval-steps 3";

/// What a run that succeeds says.
fn said(args: &[&str]) -> String {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

fn result(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("result.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The number that stands below `name` on the report.
fn figure(page: &str, name: &str) -> String {
    let value = format!("<div class=\"name\">{name}</div><div class=\"value\">");
    let (_, rest) = page
        .split_once(&value)
        .unwrap_or_else(|| panic!("no {name}"));
    rest.split('<').next().unwrap().to_owned()
}

#[test]
fn a_run_trains_on_the_first_images_alone_and_is_validated_on_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&quick_run(&out, &format!("{ONE_BATCH} --epochs 2")));
    let result = result(&out);
    assert_eq!(result["steps"], 2);

    // The same in this process, from images that are told apart by hand.
    let sample = data::load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap();
    let (first, last) = sample.train.split_at(8);
    let normalization = Normalization::of(&first);
    let settings = ModelSettings {
        bn_momentum: 0.9,
        ..ModelSettings::tutorial(11, 8)
    };
    let device = open_cpu(1, COMPILE_FAST);
    let program = Program::new(&device, choose::build(&settings, device.kind).unwrap());
    let mut batch = Batch::default();
    BatchSource::evaluation(Arc::new(first), normalization, 8).fill(0, &mut batch);
    let mut state = program
        .upload_state(&initial_state(program.layout(), 0))
        .unwrap();
    for _ in 0..2 {
        let inputs = program.upload_batch(&batch, 0.05).unwrap();
        state = program.train_step(state, &inputs).unwrap().0;
    }
    let (saved, info) = load_newest(&out.join("checkpoints"), program.layout()).unwrap();
    assert_eq!(info.normalization, normalization);
    assert!(program.download_state(&state).unwrap() == saved);

    let source = Arc::new(BatchSource::evaluation(Arc::new(last), normalization, 8));
    let start = |batch: &Batch| program.eval_step_of_state(&state, batch);
    let scored = evaluate(&source, 3, start, |rows| Ok(Some(rows)));
    let mean = scored.unwrap().unwrap().mean;
    assert_eq!(mean.count(), 24);
    assert_eq!(result["val_loss"], mean.loss());
    assert_eq!(result["val_acc"], mean.accuracy());
}

#[test]
fn a_run_with_held_out_images_never_speaks_of_test_images() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--validation-split 400 --steps-per-epoch 2 --epochs 1";
    let said = said(&quick_run(&out, options));
    let data = "data        sample: 1,600 training and 400 validation images\n";
    assert!(said.contains(data), "{said}");

    let page = || fs::read_to_string(out.join("report.html")).unwrap();
    let accuracy = result(&out)["val_acc"].as_f64().unwrap();
    let accuracy = format!("{:.2} %", 100.0 * accuracy);
    let check = |page: &str| {
        assert_eq!(figure(page, "validation accuracy"), accuracy);
        assert!(page.contains("The first 10 validation images"));
        assert!(page.contains("of 400 images"));
        assert!(!page.contains("test image") && !page.contains("test accuracy"));
    };
    check(&page());

    // The page of the run is made again from the same images; `eval` has the test images.
    let from = ["--device", "cpu", "--checkpoint", text(&out)];
    fs::remove_file(out.join("report.html")).unwrap();
    succeed(&[&["report"], &from[..]].concat());
    check(&page());
    let printed = succeed(&[&["eval"], &from[..]].concat());
    assert!(printed.starts_with("images: 500\n"), "{printed}");
}

#[test]
fn a_resumed_run_keeps_its_held_out_images() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&quick_run(&out, &format!("{ONE_BATCH} --epochs 1")));
    let resume = ["--resume", "--out-dir", text(&out), "--epochs", "2"];
    for other in ["0", "1900"] {
        let message = fail(&[&resume[..], &["--validation-split", other]].concat(), 2);
        for part in ["`validation-split` was 1992", &format!("is now {other}")] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
    let said = said(&resume);
    let data = "data        sample: 8 training and 1,992 validation images\n";
    assert!(said.contains(data), "{said}");
    assert_eq!(result(&out)["steps"], 2);
}

#[test]
fn a_split_that_leaves_less_than_a_batch_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let refused = |split: &str| {
        let args = quick_run(&out, "--validation-split");
        let message = fail(&[args, vec![split]].concat(), 2);
        assert!(!out.exists());
        message
    };
    for (split, left) in [("1993", "7"), ("2000", "0"), ("49999", "0")] {
        let message = refused(split);
        for part in [
            &format!("--validation-split {split} leaves {left} of 2000 training images"),
            "a batch of 8",
            "take --validation-split 1992 or less",
        ] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
    assert!(refused("1000000000").contains("from 0 to 999999999"));
}
