//! Weights of one task as the start of another: other classes, frozen layers.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use program::runs::{assert_same_end, checkpoints, quick_run};
use program::{fail, run, succeed, text};
use safetensors::SafeTensors;

/// A network of few weights, whose first stage is 16 channels wide.
const SMALL: &str = "--model resnet20-v2 --max-steps 2 --eval-steps 1";

/// The values of each tensor in the newest checkpoint of the run in `folder`, as bytes.
fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(checkpoints(folder).last().unwrap()).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}

/// A folder of pictures of three classes of the sample: `FOLDER/CLASS/NUMBER.png`.
fn three_classes(folder: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/sample/train.bin");
    for (number, record) in fs::read(path).unwrap().chunks(3073).enumerate() {
        let class = folder.join(format!("class{}", record[0]));
        if record[0] > 2 {
            continue;
        }
        fs::create_dir_all(&class).unwrap();
        let pixel = |at: u32, channel: usize| record[1 + 1024 * channel + at as usize];
        let picture = image::RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([0, 1, 2].map(|channel| pixel(32 * y + x, channel)))
        });
        picture
            .save(class.join(format!("{number:04}.png")))
            .unwrap();
    }
}

#[test]
fn a_network_for_other_classes_starts_from_all_but_the_last_layer_and_frozen_layers_keep_their_bits()
 {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(&quick_run(&path("first"), SMALL));
    let first = tensors(&path("first"));
    three_classes(&path("pictures"));

    let checkpoint = checkpoints(&path("first")).pop().unwrap();
    let data = path("pictures");
    let transfer = [
        "--dataset",
        "folder",
        "--data-dir",
        text(&data),
        "--validation-split",
        "0.1",
        "--model",
        "resnet20-v2",
        "--eval-steps",
        "1",
        "--init-weights",
        text(&checkpoint),
        "--freeze-until",
        "stage1",
        "--ema",
        "0.9",
    ];
    let train = |name: &str, more: &[&str]| {
        let out = path(name);
        let output = run(&[&quick_run(&out, "")[..], &transfer, more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = train("whole", &["--max-steps", "4"]);
    let lines = said
        .lines()
        .filter(|line| line.contains("is of 10 classes, and these images are of 3"));
    assert_eq!(lines.count(), 1, "{said}");
    // By hand: the first convolution, and three units of two 3x3 convolutions and two batch norms of 16 channels.
    let frozen = 27 * 16 + 3 * 2 * (9 * 16 * 16 + 2 * 16);
    assert_eq!(frozen, 14_448);
    let line = "frozen      until stage1: 14,448 of 269,267 weights";
    assert!(said.contains(line), "{said}");

    let whole = tensors(&path("whole"));
    let mut counts = [0, 0];
    for (name, bytes) in &first {
        let Some(now) = whole.get(name).filter(|now| now.len() == bytes.len()) else {
            assert!(name.contains("dense/"), "{name}");
            continue;
        };
        let layer = name.strip_prefix("momentum/").unwrap_or(name);
        let is_frozen = layer.starts_with("conv_in/") || layer.starts_with("stage1/");
        if is_frozen && name.starts_with("momentum/") {
            assert!(now.iter().all(|byte| *byte == 0), "{name} is no longer 0");
            continue;
        }
        assert_eq!(now == bytes, is_frozen, "{name}");
        counts[usize::from(is_frozen)] += 1;
        if let Some(average) = whole.get(&format!("average/{name}")) {
            assert_eq!(average == bytes, is_frozen, "average/{name}");
        }
    }
    assert!(counts[0] > 50 && counts[1] > 20, "{counts:?}");

    train("cut", &["--max-steps", "2"]);
    let cut = path("cut");
    succeed(&["--resume", "--out-dir", text(&cut), "--max-steps", "4"]);
    assert_same_end(&cut, &path("whole"));
    let thaw = [
        "--resume",
        "--out-dir",
        text(&cut),
        "--freeze-until",
        "stem",
    ];
    let message = fail(&thaw, 2);
    assert!(message.contains("`freeze-until` was"), "{message}");
    let other = [
        "--resume",
        "--out-dir",
        text(&cut),
        "--freeze-until",
        "head",
    ];
    let message = fail(&other, 2);
    assert!(message.contains("freeze-until"), "{message}");
}

#[test]
fn a_file_of_another_network_is_refused_whatever_its_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(&quick_run(&path("first"), SMALL));
    let checkpoint = checkpoints(&path("first")).pop().unwrap();
    let out = path("second");
    let mut args = quick_run(&out, "--model wrn-16-4 --max-steps 1");
    args.extend(["--init-weights", text(&checkpoint)]);
    let message = fail(&args, 3);
    assert!(
        message.contains("checkpoint of another network"),
        "{message}"
    );
}

#[test]
fn a_network_by_hand_beyond_the_kernels_trains_resumes_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let options =
        "--model custom --stage-units 1,2 --widths 20,40 --block bottleneck --eval-steps 1";
    let train = |out: &Path, steps: &str| {
        let output = run(&quick_run(out, &format!("{options} --max-steps {steps}")));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = train(&whole, "4");
    assert!(
        said.contains("network     Custom-bottleneck-1-2-of-20-40, "),
        "{said}"
    );
    if cpu_kernels::supported() {
        let reason = "kernels     none, XLA's operations: stage1/unit01/conv1 has 5 channels";
        assert!(said.contains(reason), "{said}");
    } else {
        println!("skipped: the reason, since there are no kernels here");
    }
    train(&cut, "2");
    succeed(&["--resume", "--out-dir", text(&cut), "--max-steps", "4"]);
    assert_same_end(&cut, &whole);
    let table = succeed(&[
        "eval",
        "--device",
        "cpu",
        "--steps",
        "1",
        "--batch-size",
        "8",
        "--checkpoint",
        text(&whole),
    ]);
    assert!(table.contains("acc: "), "{table}");
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(page.contains("Custom-bottleneck-1-2-of-20-40 on sample"));
}
