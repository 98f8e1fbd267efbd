//! What later starts find of the pictures of the first.

use std::fs;
use std::path::Path;

use resnet_xla::data::{self, DatasetKind, Normalization, PictureOptions, Size, Split};
use serde_json::Value;

use crate::program::runs::{assert_same_end, checkpoints, quick_run};
use crate::program::{fail, program, run, succeed, text};
use crate::{colours, on, tensors};

#[test]
fn a_run_goes_on_with_the_pictures_that_it_began_with_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (pictures, whole, stopped) = (path("pictures"), path("whole"), path("stopped"));
    colours(&pictures, 8);
    // 18 pictures to train on, so two steps an epoch.
    let options = "--epochs 2 --image-size 16 --validation-split 0.25";
    succeed(&on(&pictures, &whole, options));
    succeed(&on(
        &pictures,
        &stopped,
        &format!("{options} --max-steps 3"),
    ));
    let resume = ["--resume", "--out-dir", text(&stopped), "--epochs"];
    succeed(&[&resume[..], &["2"]].concat());
    assert_same_end(&stopped, &whole);

    let eval = |data: &[&str]| {
        let from = ["eval", "--device", "cpu", "--checkpoint", text(&stopped)];
        let output = run(&[&from[..], data].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let table = String::from_utf8(output.stdout).unwrap();
        let images = table.lines().next().unwrap().to_owned();
        (
            images,
            said.contains("no longer those that the network was trained on"),
        )
    };
    // The same pictures elsewhere are divided as the run divided them; of others all are scored.
    let (moved, other) = (path("moved"), path("other"));
    fs::rename(&pictures, &moved).unwrap();
    colours(&other, 3);
    assert_eq!(
        eval(&["--data-dir", text(&moved)]),
        ("images: 6".to_owned(), false)
    );
    assert_eq!(
        eval(&["--data-dir", text(&other)]),
        ("images: 9".to_owned(), false)
    );

    fs::rename(&moved, &pictures).unwrap();
    assert_eq!(eval(&[]), ("images: 6".to_owned(), false));
    // Another picture of the same name and length.
    let bitmap = pictures.join("red/3.bmp");
    let before = fs::read(&bitmap).unwrap();
    let mut other = before.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&bitmap, other).unwrap();
    let refusal = "`pictures` was the data set with the SHA-256 sum ";
    assert!(fail(&[&resume[..], &["3"]].concat(), 2).contains(refusal));
    fs::write(&bitmap, before).unwrap();
    assert_eq!(eval(&[]), ("images: 6".to_owned(), false));
    fs::copy(pictures.join("red/0.png"), pictures.join("red/99.png")).unwrap();
    let message = fail(&[&resume[..], &["3"]].concat(), 2);
    assert!(message.contains(refusal), "{message}");
    assert_eq!(eval(&[]), ("images: 6".to_owned(), true));
}

#[test]
fn pictures_beyond_the_limit_are_decoded_once_into_a_file_for_all_later_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (pictures, cache) = (path("pictures"), path("cache"));
    colours(&pictures, 8);
    let said_by = |args: &[&str]| {
        let output = program(args)
            .env("XDG_CACHE_HOME", &cache)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let options = "--epochs 1 --image-size 16 --validation-split 0.25";
    let in_memory = path("memory");
    let said = said_by(&on(&pictures, &in_memory, options));
    let images = path("decoded-images");
    assert!(!said.contains("decode") && !images.exists(), "{said}");

    let limited = format!("{options} --cache-memory 18431");
    let run_again = |name: &str| {
        let out = path(name);
        let said = said_by(&on(&pictures, &out, &limited));
        assert!(tensors(&out) == tensors(&in_memory), "{name}");
        said
    };
    assert!(run_again("first").contains("and are decoded to "));
    let again = "where an earlier start decoded them to";
    let said = run_again("second");
    assert!(
        said.contains(again) && !said.contains("are decoded to "),
        "{said}"
    );
    let eval = ["eval", "--device", "cpu", "--checkpoint"];
    let second = path("second");
    assert!(said_by(&[&eval[..], &[text(&second)]].concat()).contains(again));

    // Next to the runs, of which it is none, and not in the user's cache.
    let listed = run(&["runs", "--json", text(folder.path())]);
    assert!(listed.stderr.is_empty(), "{listed:?}");
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let listed = listed.iter().map(|entry| entry["run"].as_str().unwrap());
    let runs = ["first", "memory", "second"].map(path);
    assert!(listed.eq(runs.iter().map(|run| text(run))));
    let in_cache = cache.join("resnet-xla/decoded-images");
    assert!(!in_cache.exists());
    let files: Vec<_> = fs::read_dir(&images).unwrap().collect();
    let [Ok(file)] = &files[..] else {
        panic!("{files:?}");
    };
    let whole = fs::read(file.path()).unwrap();
    fs::write(file.path(), &whole[..whole.len() / 2]).unwrap();
    let said = run_again("third");
    let broken = "is not used: it is cut short, or something else";
    assert!(said.contains(broken), "{said}");
    assert!(run_again("fourth").contains(again));
    // 24 images of 16 x 16 x 3 bytes are not above the limit.
    let exact = format!("{options} --cache-memory 18KiB");
    assert!(!said_by(&on(&pictures, &path("exact"), &exact)).contains("decode"));
    let misplaced = quick_run(&second, "--overwrite --cache-memory 1GB");
    assert!(fail(&misplaced, 2).contains("--cache-memory: expected no such option but with"));

    // A file alone is in no run. Neither has a run of which nothing can be written next to it.
    let alone = path("alone.safetensors");
    fs::copy(checkpoints(&second).last().unwrap(), &alone).unwrap();
    let eval_alone = || said_by(&[&eval[..], &[text(&alone)]].concat());
    assert!(eval_alone().contains("are decoded to ") && in_cache.is_dir());
    assert!(eval_alone().contains(again));
    fs::remove_dir_all(&images).unwrap();
    fs::remove_dir_all(&in_cache).unwrap();
    fs::write(&images, "in the way").unwrap();
    let said = run_again("fifth");
    assert!(
        said.contains("the decoded images go to the user's cache instead"),
        "{said}"
    );
    assert!(in_cache.is_dir());
}

#[test]
fn mean_and_deviation_are_those_of_all_pixels_wherever_the_images_are() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    colours(&pictures, 8);
    fs::write(pictures.join("red/0.png"), "not a picture").unwrap();
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/hub");
    let sets = [
        (DatasetKind::Folder, &pictures, 16, 5),
        (DatasetKind::Parquet, &hub, 4, 2),
    ];
    for (kind, path, side, held_out) in sets {
        let of_training = |cache_memory| {
            let options = PictureOptions {
                side,
                skip_bad: true,
                cache_memory,
                cache_folder: Some(folder.path().join("cache")),
            };
            let dataset = data::load(kind, path, options).unwrap();
            let training = dataset.divide(held_out, 3).training;
            assert!(training.images.sums().is_some());
            // Nothing is known of these but their pixels.
            let pixels = Split {
                images: training.images.to_array().into(),
                labels: training.labels.clone(),
            };
            let normalization = Normalization::of(&training);
            assert_eq!(normalization, Normalization::of(&pixels));
            normalization
        };
        let in_memory = of_training(None);
        let (decoded, kept) = (of_training(Some(Size(0))), of_training(Some(Size(0))));
        assert_eq!([decoded, kept], [in_memory; 2]);
    }
    assert_eq!(
        fs::read_dir(folder.path().join("cache")).unwrap().count(),
        2
    );
}
