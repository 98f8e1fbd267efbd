//! The same images from another kind of file: the same batches and weights.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use resnet_xla::data::{
    self, Augment, Batch, BatchSource, Dataset, DatasetKind, Normalization, PictureOptions, Split,
    TrainingOptions,
};
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::program::runs::{assert_same_end, quick_run};
use crate::program::{fail, succeed, text};
use crate::tensors;

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
