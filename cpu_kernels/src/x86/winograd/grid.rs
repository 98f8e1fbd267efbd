//! Where tiles lie.

use std::ops::Range;

use super::super::format::Format;
use super::super::layer::Layer;

/// Images of one size in tiles, numbered image by image and row by row. Those at the end of a side may reach beyond it.
#[derive(Clone, Copy)]
pub struct Grid {
    pub height: usize,
    pub width: usize,
    /// Along a side of a tile.
    pub results: usize,
    /// Tiles that are multiplied at a time, at most, or pairs of them.
    pub at_a_time: usize,
}

impl Grid {
    pub fn new(layer: &Layer, results: usize, at_a_time: usize) -> Self {
        Self {
            height: layer.height,
            width: layer.width,
            results,
            at_a_time,
        }
    }

    /// Of an image.
    fn tiles(self) -> usize {
        self.height.div_ceil(self.results) * self.width.div_ceil(self.results)
    }

    /// Images that have as many tiles as are multiplied at a time.
    pub fn images<F: Format>(self) -> usize {
        (F::VALUES * self.at_a_time / self.tiles()).max(1)
    }

    /// Elements of `values` tiles in a run of `images` images, at most.
    pub fn most(self, images: usize, values: usize) -> usize {
        self.at_a_time.min((images * self.tiles()).div_ceil(values))
    }

    /// Of each of the tiles `run`: its image, and the row and the column of its first result.
    #[inline(always)]
    pub fn corners(self, run: Range<usize>) -> impl Iterator<Item = [usize; 3]> {
        let side = self.results;
        let across = self.width.div_ceil(side);
        let (image, tile) = (run.start / self.tiles(), run.start % self.tiles());
        let mut next = [image, tile / across * side, tile % across * side];
        run.map(move |_| {
            let corner = next;
            let [image, i, j] = corner;
            next = if j + side < self.width {
                [image, i, j + side]
            } else if i + side < self.height {
                [image, i + side, 0]
            } else {
                [image + 1, 0, 0]
            };
            corner
        })
    }

    /// The tiles of `images` images, `values` of them in an element, in runs of almost equal length: the last of a product's
    /// rows would not use the registers if there were few of them.
    pub fn runs(self, images: usize, values: usize) -> impl Iterator<Item = Range<usize>> {
        const ROWS: usize = 4;
        let tiles = images * self.tiles();
        let runs = tiles.div_ceil(values * self.at_a_time);
        let len = tiles.div_ceil(runs).next_multiple_of(ROWS);
        (0..tiles)
            .step_by(len)
            .map(move |first| first..tiles.min(first + len))
    }
}
