//! `fetch`: downloads and verifies the data, then shows a few images.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::output::stdout;
use crate::cli::args::FetchArgs;
use crate::cli::config::ConfigError;
use crate::data::{self, Dataset, DatasetKind, PictureOptions};
use crate::show::pictures::{self, Caption, Tile, Tone};
use crate::show::raster::PictureError;
use crate::system::text::shown;

/// Images shown in the picture, and how many in a row.
const IMAGES: usize = 10;
const COLUMNS: usize = 5;
const PICTURE: &str = "first_ten.png";

pub fn run(args: &FetchArgs) -> Result<()> {
    let kind = args.data.dataset.unwrap_or(DatasetKind::Cifar10);
    let folder = args.data.data_dir.clone().unwrap_or(PathBuf::from("data"));
    if kind.is_yours() {
        return Err(ConfigError::Value {
            option: "dataset",
            expected: "a data set that can be fetched",
            got: "yours, which is there already".to_owned(),
        }
        .into());
    }
    let dataset = data::load(kind, &folder, PictureOptions::default())?;
    let names = &dataset.spec.class_names;
    let mut out = stdout();
    for (name, split) in [("train", &dataset.train), ("test", &dataset.test)] {
        writeln!(out, "{name}_images {:?}", split.images.dim())?;
        writeln!(out, "{name}_labels ({},)", split.labels.len())?;
    }
    let count = IMAGES.min(dataset.train.len());
    writeln!(out, "first {count} training labels:")?;
    for label in dataset.train.labels.iter().take(count) {
        writeln!(out, "  {label} {}", names[usize::from(*label)])?;
    }
    let picture = folder.join(PICTURE);
    match save_picture(&picture, &dataset, count) {
        Ok(()) => writeln!(out, "picture: {}", shown(&picture))?,
        // A read-only data folder is fine.
        Err(PictureError::Write(error)) => log::warn!("no picture of them: {error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn save_picture(path: &Path, dataset: &Dataset, count: usize) -> Result<(), PictureError> {
    // If the folder cannot be created, writing the picture fails and reports it.
    let _ = path.parent().map(fs::create_dir_all);
    let Dataset { spec, train, .. } = dataset;
    let tiles: Vec<_> = train
        .pixels()
        .zip(&train.labels)
        .take(count)
        .map(|(image, label)| Tile {
            image,
            side: spec.side,
            caption: vec![Caption {
                text: spec.class_names[usize::from(*label)].clone(),
                tone: Tone::Neutral,
            }],
        })
        .collect();
    pictures::save_grid(path, &tiles, COLUMNS)
}
