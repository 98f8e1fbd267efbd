//! Pictures that cannot be read, and folders that do not fit.

use std::fs;

use serde_json::Value;

use crate::program::{fail, run, succeed, text};
use crate::{colours, on};

#[test]
fn pictures_that_cannot_be_read_are_all_named_and_left_out_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("run"));
    colours(&pictures, 8);
    fs::write(pictures.join("red/0.png"), "not a picture").unwrap();
    let whole = fs::read(pictures.join("blue/1.jpg")).unwrap();
    fs::write(pictures.join("blue/1.jpg"), &whole[..whole.len() / 2]).unwrap();
    let options = "--epochs 1 --steps-per-epoch 1 --validation-split 6";
    let message = fail(&on(&pictures, &out, options), 3);
    for part in [
        "red/0.png: ",
        "blue/1.jpg: the file is cut short",
        "2 of 24 pictures could not be read, as said above. Mend or remove them, or leave them out with --skip-bad",
    ] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    assert!(!out.exists() && !message.contains("compiling"), "{message}");

    let output = run(&on(&pictures, &out, &format!("{options} --skip-bad")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("red/0.png: ") && said.contains("2 of 24 pictures could not be read"));
    assert!(
        said.contains("folder: 16 training and 6 validation images\n"),
        "{said}"
    );
    // What is made from the run later leaves them out too.
    let from = ["--device", "cpu", "--checkpoint", text(&out)];
    succeed(&[&["report"], &from[..]].concat());
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("of 6 images"));
    // In batches of the run's size, so that the same program says the same of each image.
    let eval = ["eval", "--json", "--batch-size", "8"];
    let scores: Value = serde_json::from_str(&succeed(&[&eval, &from[..]].concat())).unwrap();
    let result = fs::read_to_string(out.join("result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(scores["images"], 6);
    assert_eq!(scores["acc"], result["val_acc"]);

    for number in 0..8 {
        for ending in ["png", "jpg", "webp", "bmp"] {
            let path = pictures.join(format!("red/{number}.{ending}"));
            if path.exists() {
                fs::write(path, "x").unwrap();
            }
        }
    }
    let args = on(
        &pictures,
        &out,
        "--overwrite --skip-bad --validation-split 6",
    );
    let message = fail(&args, 3);
    assert!(
        message.contains("a picture of the class \"red\" that can be read, got none"),
        "{message}"
    );
}

#[test]
fn a_folder_that_does_not_fit_is_refused_before_anything_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("run"));
    colours(&pictures, 4);
    for (options, code, expected) in [
        (
            "",
            2,
            "has 12 training images and none to validate on; take a share of them, such as --validation-split 0.1",
        ),
        (
            "--validation-split 0.9",
            2,
            "--validation-split 0.9 leaves 1 of 12 training images",
        ),
        (
            "--validation-split 1.5",
            2,
            "or a share between 0 and 1 such as 0.1",
        ),
        (
            "--validation-split 3 --image-size 30",
            2,
            "expected a multiple of 4",
        ),
        (
            "--validation-split 3 --image-size 20 --model fast",
            2,
            "expected a multiple of 8",
        ),
        (
            "--dataset sample --image-size 64",
            2,
            "--image-size: expected no such option but with --dataset folder",
        ),
    ] {
        let folder = on(&pictures, &out, "");
        let options: Vec<&str> = options.split_whitespace().collect();
        let message = fail(&[&folder[..], &options].concat(), code);
        assert!(message.contains(expected), "{options:?}: {message}");
        assert!(!out.exists() && !message.contains("compiling"), "{message}");
    }
    let message = fail(&["fetch", "--dataset", "folder"], 2);
    assert!(
        message.contains("a data set that can be fetched"),
        "{message}"
    );
    let nowhere = folder.path().join("nowhere");
    let message = fail(&on(&nowhere, &out, "--validation-split 3"), 3);
    assert!(
        message.contains("cannot open the picture folder"),
        "{message}"
    );
}
