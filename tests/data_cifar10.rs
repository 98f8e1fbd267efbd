//! The real CIFAR-10, when it is there: `resnet-xla fetch` puts it into `data/`.

mod program;

use std::fs;
use std::path::Path;

use program::program_as_shipped;
use resnet_xla::data::{DatasetKind, Normalization, PictureOptions, load};
use serde_json::Value;

/// Whether the files are there; prints that the test is skipped if they are not.
fn is_there(data_dir: &Path) -> bool {
    let test_images = data_dir.join("cifar-10-batches-bin/test_batch.bin");
    let found = test_images.exists();
    if !found {
        println!("skipped: CIFAR-10 is not in {}", data_dir.display());
    }
    found
}

#[test]
fn cifar_10_has_the_published_shapes_labels_and_statistics() {
    let data_dir = Path::new("data");
    if !is_there(data_dir) {
        return;
    }
    let dataset = load(DatasetKind::Cifar10, data_dir, PictureOptions::default()).unwrap();
    assert_eq!(dataset.train.images.dim(), (50_000, 32, 32, 3));
    assert_eq!(dataset.train.labels.len(), 50_000);
    assert_eq!(dataset.test.images.dim(), (10_000, 32, 32, 3));
    assert_eq!(dataset.test.labels.len(), 10_000);
    let first: Vec<u16> = dataset.test.labels.iter().take(10).copied().collect();
    assert_eq!(first, [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);

    // Computed with numpy in double precision.
    let normalization = Normalization::of(&dataset.train);
    let expected = [
        (normalization.mean, [125.3069, 122.9504, 113.8654]),
        (normalization.std, [62.9932, 62.0887, 66.7049]),
    ];
    for (got, expected) in expected {
        for (got, expected) in got.into_iter().zip(expected) {
            assert!(
                (got - expected).abs() < 1e-4,
                "expected {expected}, got {got}"
            );
        }
    }
}

/// The percentage that stands before `words` in `text`, of 10,000 images.
fn images_right(text: &str, words: &str) -> u64 {
    let (before, _) = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words}"));
    let percent = before.trim_end_matches(" %").rsplit(' ').next().unwrap();
    (percent.parse::<f64>().unwrap() * 100.0).round() as u64
}

#[test]
fn the_network_that_comes_with_the_program_scores_what_the_documents_say_to_the_last_image() {
    if !is_there(Path::new("data")) {
        return;
    }
    if !cpu_kernels::supported() {
        println!(
            "skipped: without kernels sums are rounded otherwise, and an image more or less may be right"
        );
        return;
    }
    let args =
        "eval --device cpu --checkpoint assets/fast.safetensors --data-dir data --tta flip --json";
    let args: Vec<&str> = args.split(' ').collect();
    let output = program_as_shipped(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let scores: Value = serde_json::from_slice(&output.stdout).unwrap();
    let right = |of: &Value| (of["acc"].as_f64().unwrap() * 10_000.0).round() as u64;
    assert_eq!(scores["images"], 10_000);

    let assets = fs::read_to_string("assets/README.md").unwrap();
    let plain = images_right(&assets, " of the 10,000 test images");
    let flipped = images_right(&assets, " with flips");
    assert_eq!([right(&scores), right(&scores["tta"])], [plain, flipped]);

    let page = fs::read_to_string("docs/accuracy.md").unwrap();
    let (_, shipped) = page
        .split_once("The weights that come with the program")
        .unwrap();
    let shipped = shipped.replace('\n', " ");
    assert_eq!(images_right(&shipped, " and"), plain);
    assert_eq!(images_right(&shipped, " with flips"), flipped);
}
