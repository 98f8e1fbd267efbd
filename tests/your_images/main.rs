//! Runs on images of a user: folders of pictures, and arrays.

#[path = "../program/mod.rs"]
mod program;

mod classes;
mod later_starts;
mod refused;
mod same_images;

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use program::runs::{checkpoints, quick_run};
use program::text;

/// The tensors of the newest checkpoint of `run`, by name.
pub fn tensors(run: &Path) -> Vec<(String, Vec<u8>)> {
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
pub fn picture(colour: [u8; 3], number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let shade = ((x + y + 5 * number) % 40) as u8;
        Rgb(colour.map(|value| value.saturating_sub(shade)))
    })
}

/// A folder of `each` pictures of red, green and blue, of many sizes and all formats.
pub fn colours(folder: &Path, each: u32) {
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
pub fn on<'a>(folder: &'a Path, out: &'a Path, options: &'a str) -> Vec<&'a str> {
    let data = ["--dataset", "folder", "--data-dir", text(folder)];
    [&quick_run(out, options)[..], &data].concat()
}
