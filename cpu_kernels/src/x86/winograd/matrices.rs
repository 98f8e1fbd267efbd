//! Tiles as matrices, side by side.

use super::super::aligned::Aligned;
use super::super::format::Lanes;
use super::super::gemm::PANEL;
use super::grid::Grid;
use super::places;

/// Tiles `[tiles, places, C]`: at each of their places a matrix `[tiles, C]` of elements, f32 or pairs of bf16. Pairs along the
/// channels fill the first half of a tile's lanes; pairs of tiles have lanes as one of f32 has.
pub struct Matrices {
    pub values: Aligned<Lanes>,
    pub parts: usize,
    /// Lanes from a tile to the next. An odd number: what lies powers of two apart shares few places of a cache.
    pub row: usize,
}

impl Matrices {
    /// For so many tiles of a grid, or pairs of them, of `parts` times 16 channels.
    pub fn new(grid: Grid, tiles: usize, parts: usize) -> Self {
        let row = places(grid.results) * parts + 1;
        Self {
            values: Aligned::zeros(tiles * row),
            parts,
            row,
        }
    }

    pub fn channels(&self) -> usize {
        self.parts * PANEL
    }

    /// The matrix of a place, of elements of which `along` values are along the channels.
    pub fn place(&self, place: usize, along: usize) -> &[f32] {
        &self.values.as_flattened()[place * self.channels() / along..]
    }

    pub fn place_mut(&mut self, place: usize) -> &mut [f32] {
        let first = place * self.channels();
        &mut self.values.as_flattened_mut()[first..]
    }
}
