//! In tiles of 2x2 results: the products at all places are added up, and transformed at last.

use super::super::super::format::{F32, Format, Lanes, put, registers};
use super::super::super::gemm::{Depth, Left, PANEL, Product, Right};
use super::super::super::layer::Layer;
use super::super::super::padded::Padded;
use super::super::super::sets::Set;
use super::super::super::walk::TAPS;
use super::super::grid::Grid;
use super::super::matrices::Matrices;
use super::super::transforms::{Inputs, OutputGradients, Transform, WeightGradients};
use super::super::{SMALL, small_at_a_time, square_steps};
use super::elements;

const SIDE: usize = 4;
const PLACES: usize = SIDE * SIDE;

/// The tiles of some images and of the gradients of their results.
pub struct SmallTiles {
    pub grid: Grid,
    inputs: Matrices,
    outputs: Matrices,
}

impl SmallTiles {
    pub fn new<F: Format>(layer: &Layer, images: usize) -> Self {
        let grid = Grid::new(layer, SMALL, small_at_a_time(layer));
        let elements = grid.most(images, F::VALUES);
        Self {
            grid,
            inputs: Matrices::new(grid, elements, layer.input_parts()),
            outputs: Matrices::new(grid, elements, layer.output_parts()),
        }
    }

    /// How many sums [`Self::add`] takes.
    pub fn sums(&self) -> usize {
        PLACES * self.inputs.channels() * self.outputs.channels()
    }

    /// Adds to `sums` `[16, C, O]` what becomes the kernel's gradient by [`Self::finish`].
    #[inline(always)]
    pub fn add<S: Set, F: Format>(
        &mut self,
        set: S,
        a: &[Padded<F>],
        d: &[Padded<F>],
        sums: &mut [f32],
    ) {
        let (inputs, outputs) = (&mut self.inputs, &mut self.outputs);
        let channels = outputs.channels();
        let len = inputs.channels() * channels;
        for run in self.grid.runs(a.len(), F::VALUES) {
            let corners = self.grid.corners(run.clone());
            fill::<Inputs, S, F, SIDE>(inputs, set, corners, a, 0);
            let corners = self.grid.corners(run.clone());
            fill::<OutputGradients, S, F, SMALL>(outputs, set, corners, d, 1);
            for (place, sums) in sums.chunks_exact_mut(len).enumerate() {
                let product = Product {
                    left: Left {
                        data: inputs.place(place, 1),
                        row: 1,
                        step: inputs.row * PANEL,
                        segment: 0,
                    },
                    right: Right {
                        data: outputs.place(place, 1),
                        step: outputs.row * PANEL,
                        segment: 0,
                        panel: PANEL,
                    },
                    depth: Depth {
                        segments: 1,
                        length: run.len().div_ceil(F::VALUES),
                    },
                    rows: inputs.channels(),
                    panels: outputs.parts,
                };
                product.compute::<S, F>(set, sums, channels, true);
            }
        }
    }

    /// The gradient, from the `sums` of [`Self::add`].
    #[inline(always)]
    pub fn finish<S: Set>(self, set: S, mut sums: Vec<f32>) -> Vec<f32> {
        let weights = self.inputs.channels() * self.outputs.parts;
        let lanes: &mut [Lanes] = sums.as_chunks_mut().0;
        for at in 0..weights {
            let squares = &mut lanes[at..];
            let steps = square_steps(SIDE, weights);
            for n in 0..registers::<S>() {
                let taps = <WeightGradients as Transform<SIDE, TAPS>>::of::<S, F32>(
                    set, squares, steps, n,
                );
                for (index, tap) in taps.as_flattened().iter().enumerate() {
                    put(set, &mut squares[index * weights], n, *tap);
                }
            }
        }
        sums.truncate(TAPS * TAPS * weights * PANEL);
        sums.shrink_to_fit();
        sums
    }
}

/// Fills `matrices` with the tiles at the `corners` of `images`, transformed, as elements along the tiles. Their first pixels lie
/// `border` pixels from the border's corner.
#[inline(always)]
fn fill<T: Transform<N, SIDE>, S: Set, F: Format, const N: usize>(
    matrices: &mut Matrices,
    set: S,
    corners: impl Iterator<Item = [usize; 3]>,
    images: &[Padded<F>],
    border: usize,
) {
    let parts = matrices.parts;
    let (steps, to_steps) = (images[0].steps(), square_steps(SIDE, parts));
    let tiles = matrices.values.chunks_exact_mut(matrices.row);
    for (tile, (first, second)) in tiles.zip(elements(corners, images, border)) {
        for part in 0..parts {
            let second = second.map(|second| &second[part..]);
            let (from, to) = (&first[part..], &mut tile[part..]);
            T::elements::<S, F, F>(set, from, second, steps, to, to_steps);
        }
    }
}
