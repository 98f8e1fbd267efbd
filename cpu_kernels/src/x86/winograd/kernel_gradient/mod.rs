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
    /// Of a layer in tiles with so many `results` along a side, for `images` images at most.
    pub fn new<F: Format>(layer: &Layer, results: usize, images: usize) -> Self {
        match results {
            LARGE => Self::Large(LargeTiles::new::<F>(layer, images)),
            _ => Self::Small(SmallTiles::new::<F>(layer, images)),
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
            Self::Large(tiles) => tiles.add(set, a, d, sums),
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

/// The tiles at the `corners` of `images`, one for each element along the tiles, or two where elements are pairs, by their lanes
/// from the first pixel on. It lies `border` pixels from the border's corner.
#[inline(always)]
fn elements<F: Format>(
    mut corners: impl Iterator<Item = [usize; 3]>,
    images: &[Padded<F>],
    border: usize,
) -> impl Iterator<Item = (&[F::Lanes], Option<&[F::Lanes]>)> {
    let pixels = move |[image, i, j]: [usize; 3]| images[image].lanes_from(i + border, j + border);
    std::iter::from_fn(move || {
        let first = corners.next()?;
        let second = if F::VALUES > 1 { corners.next() } else { None };
        Some((pixels(first), second.map(pixels)))
    })
}
