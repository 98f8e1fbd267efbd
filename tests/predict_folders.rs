//! `predict` on folders of pictures, and its results for other programs.

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use csv::StringRecord;
use program::runs::quick_run;
use program::{fail, succeed, text};
use serde_json::Value;
use tempfile::TempDir;

/// One step of the smallest network.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&quick_run(&out, "--max-steps 1 --eval-steps 1"));
    folder
});

/// The arguments of `predict` with the trained network, its picture in `folder`.
fn predict<'a>(folder: &'a Path, out: &'a mut String, more: &[&'a str]) -> Vec<&'a str> {
    static TRAINED: LazyLock<PathBuf> = LazyLock::new(|| RUN.path().join("run"));
    *out = format!("{}/out.png", text(folder));
    let mut words = vec!["predict", "--device", "cpu", "--checkpoint", text(&TRAINED)];
    words.extend(["--out", out.as_str()]);
    words.extend(more);
    words
}

fn json_lines(printed: &str) -> Vec<Value> {
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The first `count` test images of the sample as PNG files in `folder`, named by their index.
fn write_sample(folder: &Path, count: usize) {
    const AREA: usize = 32 * 32;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/sample/test.bin");
    let bytes = fs::read(path).unwrap();
    for (index, record) in bytes.chunks(1 + 3 * AREA).take(count).enumerate() {
        let picture = image::RgbImage::from_fn(32, 32, |x, y| {
            let pixel = (32 * y + x) as usize;
            image::Rgb([0, 1, 2].map(|channel| record[1 + channel * AREA + pixel]))
        });
        picture
            .save(folder.join(format!("{index:03}.png")))
            .unwrap();
    }
}

#[test]
fn a_folder_of_the_test_images_is_classified_as_the_test_images_are() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    // Four batches of 32, and one image.
    let count = 129;
    write_sample(&pictures, count);
    let indices = (0..count).map(|index| index.to_string());
    let indices = indices.collect::<Vec<_>>().join(",");
    let mut out = String::new();
    let by_index = predict(folder.path(), &mut out, &["--jsonl", "--index", &indices]);
    let expected = json_lines(&succeed(&by_index));
    let by_path = predict(folder.path(), &mut out, &["--json=lines", text(&pictures)]);
    let output = program::run(&by_path);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("compiled predict_step").count(), 1, "{said}");
    let found = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!((expected.len(), found.len()), (count, count));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let path = pictures.join(format!("{index:03}.png"));
        assert_eq!(found["image"], text(&path));
        assert_eq!(found["predictions"], expected["predictions"], "{index}");
        assert!(expected["true"].is_string() && found["true"].is_null());
    }
}

#[test]
fn csv_has_a_row_for_each_picture_in_a_folder_and_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("pictures");
    fs::create_dir_all(root.join("b, \"c\"")).unwrap();
    write_sample(&root, 3);
    fs::rename(root.join("001.png"), root.join("b, \"c\"/z.PNG")).unwrap();
    let png = root.join("002.png");
    let webp = root.join("b, \"c\"/y.WebP");
    image::open(&png).unwrap().save(&webp).unwrap();
    fs::remove_file(&png).unwrap();
    fs::write(root.join("a.jpg"), "not a picture").unwrap();
    for (name, content) in [("notes.txt", "text"), (".hidden.png", "not seen")] {
        fs::write(root.join(name), content).unwrap();
    }
    // Back to where it began.
    symlink(&root, root.join("b, \"c\"/loop")).unwrap();

    let mut out = String::new();
    let words = predict(folder.path(), &mut out, &["--csv", text(&root)]);
    let output = program::run(&words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(
        errors.contains("1 of 4 pictures could not be read"),
        "{errors}"
    );
    let mut reader = csv::Reader::from_reader(&*output.stdout);
    let columns = reader
        .headers()
        .unwrap()
        .iter()
        .collect::<Vec<_>>()
        .join(" ");
    let expected =
        "image class_1 probability_1 class_2 probability_2 class_3 probability_3 true error";
    assert_eq!(columns, expected);
    let rows: Vec<StringRecord> = reader.records().map(Result::unwrap).collect();
    let names: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    let expected = ["000.png", "a.jpg", "b, \"c\"/y.WebP", "b, \"c\"/z.PNG"];
    let expected = expected.map(|name| root.join(name));
    assert_eq!(names, expected.each_ref().map(|path| text(path)));
    assert!(rows[1][1].is_empty() && rows[1][8].contains("format"));

    let mut out = String::new();
    let words = predict(folder.path(), &mut out, &["--jsonl", names[2]]);
    let json = &json_lines(&succeed(&words))[0]["predictions"];
    for place in 0..3 {
        let guess = &json[place];
        assert_eq!(guess["class"], rows[2][1 + 2 * place]);
        let probability: f64 = rows[2][2 + 2 * place].parse().unwrap();
        assert!((guess["probability"].as_f64().unwrap() - probability).abs() < 1e-5);
    }
}

#[test]
fn a_folder_without_pictures_and_two_forms_at_once_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "text").unwrap();
    let mut out = String::new();
    let message = fail(&predict(folder.path(), &mut out, &[text(folder.path())]), 3);
    assert!(message.contains("there is no picture in"), "{message}");
    assert!(message.contains(".webp, .bmp"), "{message}");
    assert!(message.contains(text(folder.path())), "{message}");
    let mut out = String::new();
    fail(&predict(folder.path(), &mut out, &["--json", "--csv"]), 2);
}

#[test]
fn a_picture_in_a_folder_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    write_sample(folder.path(), 1);
    let picture = folder.path().join("out.png");
    fs::rename(folder.path().join("000.png"), &picture).unwrap();
    let before = fs::read(&picture).unwrap();
    let mut out = String::new();
    let message = fail(&predict(folder.path(), &mut out, &[text(folder.path())]), 2);
    assert!(message.contains("would overwrite IMAGE"), "{message}");
    assert!(fs::read(&picture).unwrap() == before);
}
