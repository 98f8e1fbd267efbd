//! Classes of a user: their names, many of them, and groups of them.

use std::fs;

use resnet_xla::data;
use serde_json::Value;

use crate::program::{fail, run, succeed, text};
use crate::{colours, on, picture};

#[test]
fn a_run_on_pictures_names_their_classes_in_all_that_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("run"));
    colours(&pictures, 16);
    let options = "--epochs 8 --image-size 16 --validation-split 0.25 --augment none";
    let output = run(&on(&pictures, &out, options));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("folder: 36 training and 12 validation images\n"),
        "{said}"
    );

    let from = ["--device", "cpu", "--checkpoint", text(&out)];
    let scores = succeed(&[&["eval", "--json"], &from[..]].concat());
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert_eq!(
        scores["class_names"].to_string(),
        r#"["blue","green","red"]"#
    );
    // Held out by the same share of each class.
    for class in ["blue", "green", "red"] {
        assert_eq!(scores["classes"][class]["images"], 4);
    }
    assert!(scores["acc"].as_f64().unwrap() > 0.9, "{scores}");

    let sky = folder.path().join("sky.webp");
    picture([50, 50, 250], 99, 300, 200).save(&sky).unwrap();
    let drawn = folder.path().join("drawn.png");
    let predict = ["predict", "--json", "--out", text(&drawn), text(&sky)];
    let found: Value = serde_json::from_str(&succeed(&[&predict, &from[..]].concat())).unwrap();
    assert_eq!(found[0]["predictions"][0]["class"], "blue");
    succeed(&[&["report"], &from[..]].concat());
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<td>green</td>") && page.contains("of 12 images"));

    // With another class, the network would mean other things.
    fs::create_dir(pictures.join("amber")).unwrap();
    picture([250, 200, 50], 0, 20, 20)
        .save(pictures.join("amber/1.png"))
        .unwrap();
    let resume = ["--resume", "--out-dir", text(&out), "--epochs", "9"];
    let message = fail(&resume, 2);
    assert!(
        message.contains("`classes` was 3 (blue, green, red, …) and is now 4"),
        "{message}"
    );
    assert!(fail(&[&["eval"], &from[..]].concat(), 2).contains("trained on, got folder"));
}

#[test]
fn of_many_classes_the_worst_are_shown_instead_of_a_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("run"));
    for class in 0..120 {
        for part in ["train", "val"] {
            let folder = pictures.join(format!("{part}/class {class:03}"));
            fs::create_dir_all(&folder).unwrap();
            picture([class * 2, 100, 100], 0, 8, 8)
                .save(folder.join("1.png"))
                .unwrap();
        }
    }
    succeed(&on(&pictures, &out, "--epochs 1 --image-size 8"));
    let eval = ["eval", "--device", "cpu", "--checkpoint", text(&out)];
    let table = succeed(&eval);
    assert!(
        table.contains("the 20 worst of 120 classes; --json has all\n"),
        "{table}"
    );
    assert!(
        table.contains("\ntrue class  taken for   images\nclass "),
        "{table}"
    );
    assert!(table.lines().count() < 60, "{table}");
    let scores: Value = serde_json::from_str(&succeed(&[&eval[..], &["--json"]].concat())).unwrap();
    assert_eq!(scores["classes"].as_object().unwrap().len(), 120);
    assert!(scores["confusion"].is_null());
    let wrong = scores["confusions"].as_array().unwrap().iter();
    let wrong: u64 = wrong.map(|pair| pair["images"].as_u64().unwrap()).sum();
    let right = scores["acc"].as_f64().unwrap() * 120.0;
    assert_eq!(wrong, 120 - right.round() as u64);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("The worst 20 of 120.") && page.contains("Confused most"));
    assert!(!page.contains("Confusion matrix"));
}

#[test]
fn pictures_of_the_classes_of_cifar_100_are_scored_by_its_groups_too() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("run"));
    let classes = data::cifar100_spec().class_names;
    for (number, class) in classes.iter().enumerate() {
        for part in ["train", "val"] {
            let folder = pictures.join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            picture([number as u8 * 2, 100, 100], 0, 8, 8)
                .save(folder.join("1.png"))
                .unwrap();
        }
    }
    succeed(&on(&pictures, &out, "--epochs 1 --image-size 8"));
    let eval = ["eval", "--device", "cpu", "--checkpoint", text(&out)];
    assert!(succeed(&eval).contains("\nacc of the 20 groups: 0."));
    let scores: Value = serde_json::from_str(&succeed(&[&eval[..], &["--json"]].concat())).unwrap();
    let groups = scores["groups"]["groups"].as_object().unwrap();
    assert_eq!(groups.len(), 20);
    assert!(groups.values().all(|group| group["images"] == 5));
    // Groups are of one size, so that the mean of their accuracies is that of all images.
    let shares = groups.values().map(|group| group["acc"].as_f64().unwrap());
    let (all, acc) = (&scores["groups"]["acc"], &scores["acc"]);
    assert!((shares.sum::<f64>() / 20.0 - all.as_f64().unwrap()).abs() < 1e-9);
    assert!(all.as_f64() >= acc.as_f64(), "{scores}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("group accuracy") && page.contains("<td>aquatic mammals</td>"));
}
