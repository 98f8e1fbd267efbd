//! The parts of recipes besides schedules: mixed images, AdamW, and averages of the weights.

mod program;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use program::runs::{assert_same_end, checkpoints, finish, quick_run};
use program::{fail, succeed, text};
use safetensors::SafeTensors;
use serde_json::Value;

const RECIPES: [&str; 2] = [
    "--optimizer adamw --lr 1e-3 --weight-decay 0.1 --mixup 0.4 --ema 0.9",
    "--optimizer nesterov --cutmix 1 --ema 0.5",
];

fn words(options: &str) -> Vec<&str> {
    options.split(' ').collect()
}

/// The bytes of each tensor of the file.
fn tensors(path: &Path) -> HashMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let owned =
        |(name, view): (String, safetensors::tensor::TensorView)| (name, view.data().to_vec());
    tensors.into_iter().map(owned).collect()
}

#[test]
fn a_run_of_each_recipe_goes_on_as_if_it_had_not_been_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for (number, recipe) in RECIPES.iter().enumerate() {
        let whole = folder.path().join(format!("whole-{number}"));
        let run = folder.path().join(format!("run-{number}"));
        finish(&whole, &words(recipe));
        finish(&run, &[words(recipe), vec!["--max-steps", "9"]].concat());
        succeed(&["--resume", "--out-dir", text(&run), "--epochs", "3"]);
        assert_same_end(&run, &whole);
    }
}

#[test]
fn a_resumed_run_keeps_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(
        &run,
        &format!("--max-steps 1 --eval-steps 1 {}", RECIPES[0]),
    ));
    for (option, value, field) in [
        ("--ema", "0.5", "`ema` was 0.9 and is now 0.5"),
        ("--mixup", "0", "`mixup` was 0.4 and is now 0.0"),
        (
            "--optimizer",
            "sgd",
            "`optimizer` was \"adamw\" and is now \"sgd\"",
        ),
        (
            "--weight-decay",
            "0",
            "`weight-decay` was 0.1 and is now 0.0",
        ),
    ] {
        let said = fail(&["--resume", "--out-dir", text(&run), option, value], 2);
        assert!(said.contains(field), "{said}");
    }
}

#[test]
fn mixing_in_two_ways_at_once_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let said = fail(&quick_run(&run, "--mixup 1 --cutmix 1"), 2);
    assert!(
        said.contains("--mixup and --cutmix do not go together"),
        "{said}"
    );
    assert!(!run.exists());
}

#[test]
fn an_unknown_optimiser_and_a_cutout_larger_than_the_images_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for (options, parts) in [
        ("--optimizer rmsprop", ["rmsprop", "muon"]),
        ("--cutout 33", ["--cutout: expected 0 to 32", "got 33"]),
    ] {
        let said = fail(&quick_run(&run, options), 2);
        for part in parts {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(!run.exists(), "{options}");
    }
}

/// A kernel `[3, 3, 16, 16]` of the last checkpoint of `run`.
fn kernel(run: &Path) -> Vec<f32> {
    let saved = tensors(checkpoints(run).last().unwrap());
    let (bytes, []) = saved["stage1/unit01/conv2/kernel"].as_chunks() else {
        panic!("an f32 has four bytes");
    };
    bytes
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn kernels_may_begin_as_the_identity_unless_a_file_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // With such a rate a weight moves by less than the bound.
    let still = "--max-steps 1 --eval-steps 1 --optimizer sgd --l2 0 --lr 1e-30";
    let assert_near = |got: &[f32], expected: &[f32]| {
        assert_eq!(got.len(), expected.len());
        let mut pairs = got.iter().zip(expected);
        assert!(pairs.all(|(got, expected)| (got - expected).abs() < 1e-20));
    };
    let run = path("identity");
    succeed(&quick_run(&run, &format!("{still} --dirac true")));
    let mut expected = vec![0.0; 9 * 16 * 16];
    for c in 0..16 {
        // The place in the middle, and the same channel on both sides.
        expected[(4 * 16 + c) * 16 + c] = 1.0;
    }
    assert_near(&kernel(&run), &expected);

    let random = path("random");
    succeed(&quick_run(&random, still));
    let run = path("file");
    let file = checkpoints(&random).pop().unwrap();
    let from = format!("{still} --dirac true --init-weights {}", text(&file));
    succeed(&quick_run(&run, &from));
    assert_near(&kernel(&run), &kernel(&random));
    assert!(kernel(&random)[0] != 0.0);
}

/// The loss that `eval` finds, with `more` arguments.
fn loss(checkpoint: &Path, more: &[&str]) -> f64 {
    let args = ["eval", "--json", "--dataset", "sample", "--device", "cpu"];
    let from = ["--batch-size", "8", "--checkpoint", text(checkpoint)];
    let json: Value = serde_json::from_str(&succeed(&[&args[..], &from, more].concat())).unwrap();
    json["loss"].as_f64().unwrap()
}

#[test]
fn what_reads_a_run_takes_the_average_of_its_weights_unless_the_last_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(
        &run,
        "--epochs 1 --steps-per-epoch 4 --ema 0.5 --lr 0.2",
    ));
    let result = fs::read_to_string(run.join("result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    let validated = result["val_loss"].as_f64().unwrap();
    let (average, last) = (loss(&run, &[]), loss(&run, &["--weights", "last"]));
    assert!(
        (average / validated - 1.0).abs() < 1e-6,
        "{average} {validated}"
    );
    assert!((last / validated - 1.0).abs() > 1e-3, "{last} {validated}");

    let saved = tensors(checkpoints(&run).last().unwrap());
    for (choice, prefix) in [(&[][..], "average/"), (&["--weights", "last"], "")] {
        let out = folder.path().join("w.safetensors");
        let args = ["export", "--checkpoint", text(&run), "--out", text(&out)];
        succeed(&[&args[..], choice].concat());
        for (name, bytes) in tensors(&out) {
            let is_statistic = name.contains("moving_");
            let prefix = if is_statistic { "" } else { prefix };
            assert_eq!(bytes, saved[&format!("{prefix}{name}")], "{name}");
        }
        let args = ["--dataset", "sample", "--weights", "average"];
        let said = fail(
            &[&["eval", "--checkpoint", text(&out)], &args[..]].concat(),
            3,
        );
        assert!(said.contains("has no average of the weights"), "{said}");
    }
}
