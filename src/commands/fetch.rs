//! `fetch`: the data, verified, and a first look at it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::output::stdout;
use crate::cli::FetchArgs;
use crate::data::{self, CLASS_NAMES, DatasetKind, SIDE, Split};
use crate::pictures::{self, Caption, Tile, Tone};
use crate::text::shown;

/// Images in the first look, and in one row of its picture.
const IMAGES: usize = 10;
const COLUMNS: usize = 5;
const PICTURE: &str = "first_ten.png";

pub fn run(args: &FetchArgs) -> Result<()> {
    let kind = args.data.dataset.unwrap_or(DatasetKind::Cifar10);
    let folder = args.data.data_dir.clone().unwrap_or(PathBuf::from("data"));
    let dataset = data::load(kind, &folder)?;
    let mut out = stdout();
    for (name, split) in [("train", &dataset.train), ("test", &dataset.test)] {
        writeln!(out, "{name}_images {:?}", split.images.dim())?;
        writeln!(out, "{name}_labels ({},)", split.labels.len())?;
    }
    let count = IMAGES.min(dataset.train.len());
    writeln!(out, "first {count} training labels:")?;
    for label in dataset.train.labels.iter().take(count) {
        writeln!(out, "  {label} {}", CLASS_NAMES[usize::from(*label)])?;
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let picture = folder.join(PICTURE);
    save_picture(&picture, &dataset.train, count)?;
    writeln!(out, "picture: {}", shown(&picture))?;
    Ok(())
}

fn save_picture(path: &Path, split: &Split, count: usize) -> Result<()> {
    let pixels = split
        .images
        .as_slice()
        .context("images are not in standard layout")?;
    let tiles: Vec<_> = pixels
        .chunks_exact(SIDE * SIDE * 3)
        .zip(&split.labels)
        .take(count)
        .map(|(image, label)| Tile {
            image,
            side: SIDE,
            caption: vec![Caption {
                text: CLASS_NAMES[usize::from(*label)].to_owned(),
                tone: Tone::Neutral,
            }],
        })
        .collect();
    Ok(pictures::save_grid(path, &tiles, COLUMNS)?)
}
