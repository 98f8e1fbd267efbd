//! Makes the dataset that is embedded in the program: the first 200 training and the first 50 test images of each
//! class of CIFAR-10, in file order, in the binary format.
//!
//! ```text
//! cargo run --release --example make_sample -- DATA_DIR OUT_DIR
//! ```
//!
//! DATA_DIR holds CIFAR-10 or receives it; OUT_DIR receives `train.bin` and `test.bin`. The committed files are those
//! of `make_sample -- data assets/sample`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use resnet_xla::data::{DatasetKind, PictureOptions, Split, load, write_record};

const TRAIN_PER_CLASS: usize = 200;
const TEST_PER_CLASS: usize = 50;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [data_dir, out_dir] = arguments.as_slice() else {
        bail!("usage: make_sample DATA_DIR OUT_DIR");
    };
    let dataset = load(DatasetKind::Cifar10, data_dir, PictureOptions::default())?;
    fs::create_dir_all(out_dir).with_context(|| format!("cannot create {}", out_dir.display()))?;
    for (split, per_class, name) in [
        (&dataset.train, TRAIN_PER_CLASS, "train.bin"),
        (&dataset.test, TEST_PER_CLASS, "test.bin"),
    ] {
        let path = out_dir.join(name);
        write_first_of_each_class(split, dataset.spec.classes(), per_class, &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write_first_of_each_class(
    split: &Split,
    classes: usize,
    per_class: usize,
    path: &Path,
) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut written = vec![0; classes];
    let images = split.images.to_array();
    for (image, &label) in images.outer_iter().zip(&split.labels) {
        let count = &mut written[usize::from(label)];
        if *count < per_class {
            *count += 1;
            let label = u8::try_from(label).map_err(std::io::Error::other)?;
            write_record(&mut file, label, image)?;
        }
    }
    file.flush()
}
