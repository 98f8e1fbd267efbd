//! The picture of the predictions.

use std::path::Path;

use anyhow::Result;

use super::Ranking;
use super::subjects::Subject;
use crate::data::{IMAGE_LEN, SIDE};
use crate::model::summary::grouped;
use crate::show::pictures::{self, Caption, Tile};
use crate::system::text;

/// Images in the picture at most: more make it larger than viewers, and memory, like.
const MOST: usize = 100;

/// The first images that were classified, to be drawn.
#[derive(Default)]
pub struct Gallery {
    tiles: Vec<([u8; IMAGE_LEN], Vec<Caption>)>,
    seen: usize,
}

impl Gallery {
    pub fn add(&mut self, subject: &Subject, ranking: &Ranking) {
        self.seen += 1;
        if self.tiles.len() < MOST {
            let captions = pictures::prediction_captions(ranking[0], subject.truth);
            self.tiles.push((subject.image, captions));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// Images that were added, drawn or not.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Draws them to `path` and says what is there.
    pub fn save(&self, path: &Path) -> Result<String> {
        let tiles: Vec<Tile> = self
            .tiles
            .iter()
            .map(|(image, caption)| Tile {
                image,
                side: SIDE,
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
