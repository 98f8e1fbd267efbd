//! The gradient of a kernel in tiles: products over the tiles.

mod large;
mod small;

use super::super::format::Format;
use super::super::layer::Layer;
use super::super::padded::Padded;
use super::super::sets::Set;
use super::LARGE;
use large::LargeTiles;
use small::SmallTiles;

/// The tiles of some images and of the gradients of their results, in one of two sizes.
pub enum KernelGradient {
    Small(SmallTiles),
    Large(LargeTiles),
}

impl KernelGradient {
    /// Of a layer in tiles with so many `results` along a side.
    pub fn new(layer: &Layer, results: usize) -> Self {
        match results {
            LARGE => Self::Large(LargeTiles::new(layer)),
            _ => Self::Small(SmallTiles::new(layer)),
        }
    }

    /// Images that should be added together.
    pub fn images<F: Format>(&self) -> usize {
        match self {
            Self::Small(tiles) => tiles.grid.images::<F>(),
            Self::Large(tiles) => tiles.grid.images::<F>(),
        }
    }

    /// How many sums [`Self::add`] takes.
    pub fn sums(&self) -> usize {
        match self {
            Self::Small(tiles) => tiles.sums(),
            Self::Large(tiles) => tiles.sums(),
        }
    }

    /// Adds to `sums` what images `a` and the gradient `d` of their results add to what becomes the kernel's gradient by
    /// [`Self::finish`].
    #[inline(always)]
    pub fn add<S: Set, F: Format>(
        &mut self,
        set: S,
        a: &[Padded<F>],
        d: &[Padded<F>],
        sums: &mut [f32],
    ) {
        match self {
            Self::Small(tiles) => tiles.add(set, a, d, sums),
            // For bf16, which has no large tiles, the compiler leaves this out.
            Self::Large(tiles) if F::VALUES == 1 => tiles.add(set, a, d, sums),
            Self::Large(_) => unreachable!("bf16 has no large tiles"),
        }
    }

    /// The gradient `[3, 3, C, O]`.
    #[inline(always)]
    pub fn finish<S: Set>(self, set: S, sums: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Small(tiles) => tiles.finish(set, sums),
            Self::Large(_) => sums,
        }
    }
}
