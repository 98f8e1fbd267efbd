//! Runs on images of a user: folders of pictures, and arrays.

mod program;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use program::runs::{assert_same_end, checkpoints, quick_run};
use program::{fail, program, run, succeed, text};
use resnet_xla::data::{
    self, Augment, Batch, BatchSource, Dataset, DatasetKind, Normalization, PictureOptions, Size,
    Split, TrainingOptions,
};
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Writes `split` as PNGs, numbered in its order, into folders by class.
fn write_pngs(split: &Split, class_names: &[String], folder: &Path) {
    for name in class_names {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let side = split.side() as u32;
    for (number, (pixels, label)) in split.pixels().zip(&split.labels).enumerate() {
        let image = RgbImage::from_raw(side, side, pixels.to_vec()).unwrap();
        let class = &class_names[usize::from(*label)];
        let name = format!("{number:05}.png");
        image.save(folder.join(class).join(name)).unwrap();
    }
}

/// The batches of two epochs, augmented and mixed.
fn batches(train: Split) -> Vec<Batch> {
    let normalization = Normalization::of(&train);
    let options = TrainingOptions {
        augment: Augment::Keras,
        cutout: 4,
        mix: None,
        seed: 7,
        batch_size: 64,
        shuffle: true,
        steps_per_epoch: Some(3),
    };
    let source = BatchSource::training(Arc::new(train), normalization, options);
    let batch = |step| {
        let mut batch = Batch::default();
        source.fill(step, &mut batch);
        batch
    };
    (0..6).map(batch).collect()
}

#[test]
fn cifar_10_as_a_folder_of_pngs_gives_the_batches_and_weights_of_the_binary_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let sample = data::load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap();
    let pictures = root.join("pictures");
    write_pngs(
        &sample.train,
        &sample.spec.class_names,
        &pictures.join("train"),
    );
    write_pngs(
        &sample.test,
        &sample.spec.class_names,
        &pictures.join("test"),
    );

    let Dataset {
        spec,
        train,
        test,
        validation,
        ..
    } = data::load(DatasetKind::Folder, &pictures, PictureOptions::default()).unwrap();
    assert_eq!(spec, sample.spec);
    assert!(train == sample.train && test == sample.test && validation.is_none());
    assert!(batches(train) == batches(sample.train));

    let options = "--epochs 1 --steps-per-epoch 3 --eval-steps 3";
    let [from_files, from_folder] = ["files", "folder"].map(|name| root.join(name));
    succeed(&quick_run(&from_files, options));
    let args = quick_run(&from_folder, options);
    succeed(
        &[
            &args[..],
            &["--dataset", "folder", "--data-dir", text(&pictures)],
        ]
        .concat(),
    );
    assert!(tensors(&from_files) == tensors(&from_folder));
}

/// The tensors of the newest checkpoint of `run`, by name.
fn tensors(run: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(checkpoints(run).last().unwrap()).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors();
    let mut all: Vec<_> = tensors
        .into_iter()
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect();
    all.sort();
    all
}

/// A picture of one colour with a slope over it, which differs for each `number`.
fn picture(colour: [u8; 3], number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let shade = ((x + y + 5 * number) % 40) as u8;
        Rgb(colour.map(|value| value.saturating_sub(shade)))
    })
}

/// A folder of `each` pictures of red, green and blue, of many sizes and all formats.
fn colours(folder: &Path, each: u32) {
    for (class, colour) in [
        ("red", [250, 50, 50]),
        ("green", [50, 250, 50]),
        ("blue", [50, 50, 250]),
    ] {
        fs::create_dir_all(folder.join(class)).unwrap();
        for number in 0..each {
            let ending = ["png", "jpg", "webp", "bmp"][number as usize % 4];
            let picture = picture(colour, number, 20 + 3 * number, 40 + number);
            let name = format!("{number}.{ending}");
            picture.save(folder.join(class).join(name)).unwrap();
        }
    }
}

/// The arguments of a short run in `out` on the pictures in `folder`.
fn on<'a>(folder: &'a Path, out: &'a Path, options: &'a str) -> Vec<&'a str> {
    let data = ["--dataset", "folder", "--data-dir", text(folder)];
    [&quick_run(out, options)[..], &data].concat()
}

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

#[test]
fn a_run_on_parquet_files_knows_their_classes_and_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/hub");
    let run_on = |out: &Path| {
        let options = "--epochs 1 --batch-size 2 --image-size 4 --eval-steps 1";
        let data = ["--dataset", "parquet", "--data-dir", text(&hub)];
        succeed(&[&quick_run(out, options)[..], &data].concat());
    };
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    run_on(&first);
    run_on(&second);
    assert_same_end(&first, &second);
    let eval = [
        "eval",
        "--json",
        "--device",
        "cpu",
        "--checkpoint",
        text(&first),
    ];
    let scores: Value = serde_json::from_str(&succeed(&eval)).unwrap();
    assert_eq!(scores["class_names"].to_string(), r#"["cat","dog","owl"]"#);
    assert_eq!(scores["images"], 2);

    let bad = hub.with_file_name("cut");
    let out = folder.path().join("bad");
    let data = ["--dataset", "parquet", "--data-dir", text(&bad)];
    let message = fail(&[&quick_run(&out, "--image-size 4")[..], &data].concat(), 3);
    assert!(
        message.contains("cut/train-0.parquet: cannot read the Parquet file"),
        "{message}"
    );
    assert!(!out.exists() && !message.contains("compiling"), "{message}");
}

/// Writes NumPy's form of an array of bytes, called `name`, with the dimensions `shape` as Python writes them.
fn write_array(zip: &mut ZipWriter<File>, name: &str, shape: &str, values: &[u8]) {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    zip.start_file(format!("{name}.npy"), SimpleFileOptions::default())
        .unwrap();
    zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
    zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
    zip.write_all(header.as_bytes()).unwrap();
    zip.write_all(values).unwrap();
}

#[test]
fn a_run_on_arrays_is_that_on_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("set.npz"), folder.path().join("run"));
    let sample = data::load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap();
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for (part, split) in [("train", &sample.train), ("test", &sample.test)] {
        let count = split.len();
        let shape = format!("({count}, 32, 32, 3)");
        let images = split.pixels().collect::<Vec<_>>().concat();
        write_array(&mut zip, &format!("x_{part}"), &shape, &images);
        let labels: Vec<u8> = split.labels.iter().map(|label| *label as u8).collect();
        write_array(
            &mut zip,
            &format!("y_{part}"),
            &format!("({count}, 1)"),
            &labels,
        );
    }
    zip.finish().unwrap();
    let options = "--epochs 1 --steps-per-epoch 3 --eval-steps 3";
    let args = quick_run(&out, options);
    succeed(&[&args[..], &["--dataset", "npz", "--data-dir", text(&path)]].concat());
    let reference = folder.path().join("reference");
    succeed(&quick_run(&reference, options));
    assert!(tensors(&out) == tensors(&reference));
    let table = succeed(&["eval", "--device", "cpu", "--checkpoint", text(&out)]);
    assert!(
        table.starts_with("images: 500\n") && table.contains("\n9 "),
        "{table}"
    );

    // Images of 5 x 5 pixels.
    let odd = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/arrays/plain.npz");
    let args = quick_run(&out, "--overwrite --dataset npz --data-dir");
    let message = fail(&[&args[..], &[text(&odd)]].concat(), 2);
    assert!(
        message.contains("images of 5 x 5 pixels do not fit"),
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
