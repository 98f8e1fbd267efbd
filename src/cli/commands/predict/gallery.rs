//! The picture of the predictions.

use std::path::Path;

use anyhow::Result;

use super::subjects::Subject;
use crate::data::DatasetSpec;
use crate::model::summary::grouped;
use crate::score::ranking::Ranking;
use crate::show::pictures::{self, Caption, Tile};
use crate::system::text;

/// Most images in the picture: with more, it gets too large for viewers and for memory.
const MOST: usize = 100;

/// The first classified images, which will be drawn.
pub struct Gallery<'a> {
    spec: &'a DatasetSpec,
    tiles: Vec<(Vec<u8>, Vec<Caption>)>,
    seen: usize,
}

impl<'a> Gallery<'a> {
    /// An empty gallery for images of the data set `spec`.
    pub fn new(spec: &'a DatasetSpec) -> Self {
        Self {
            spec,
            tiles: Vec::new(),
            seen: 0,
        }
    }

    pub fn add(&mut self, subject: &Subject, ranking: &Ranking) {
        self.seen += 1;
        if self.tiles.len() < MOST {
            let captions = pictures::prediction_captions(self.spec, ranking[0], subject.truth);
            self.tiles.push((subject.image.pixels().to_vec(), captions));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// The number of images added, whether drawn or not.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Draws the picture to `path` and returns a description of it.
    pub fn save(&self, path: &Path) -> Result<String> {
        let tiles: Vec<Tile> = self
            .tiles
            .iter()
            .map(|(image, caption)| Tile {
                image,
                side: self.spec.side,
                caption: caption.clone(),
            })
            .collect();
        pictures::save_grid(path, &tiles, pictures::PREDICTION_COLUMNS)?;
        let path = text::shown(path);
        Ok(match self.seen - tiles.len() {
            0 => path,
            _ => format!("{path}, of the first {MOST} of {}", grouped(self.seen)),
        })
    }
}
