//! In tiles of 4x4 results. The sums at all places would be four times as large as the gradient, so the products of some
//! channels of both images are transformed before those of others are computed, and then added to the gradient.

use super::super::super::aligned::Aligned;
use super::super::super::format::{F32, Format, Lanes, get, put, registers};
use super::super::super::gemm::{Depth, Left, PANEL, Product, Right};
use super::super::super::layer::Layer;
use super::super::super::padded::Padded;
use super::super::super::sets::{Set, Task};
use super::super::super::walk::TAPS;
use super::super::grid::Grid;
use super::super::transforms::{Inputs, OutputGradients, Transform, WeightGradients};
use super::super::{LARGE, square_steps};
use super::elements;

const SIDE: usize = 6;
const PLACES: usize = SIDE * SIDE;

/// Tiles that are multiplied at a time, or pairs of them. With fewer, products would be transformed more often.
const AT_A_TIME: usize = 64;

/// Parts of a block of the input's channels and of the output's. Their products stay in a core's cache.
const INPUT_BLOCK: usize = 4;
const OUTPUT_BLOCK: usize = 2;

/// The tiles of some images and of the gradients of their results.
pub struct LargeTiles {
    pub grid: Grid,
    inputs: Blocks,
    outputs: Blocks,
    /// `[36, C, O]` for the channels of a block of each, and a line more at each place.
    products: Aligned<Lanes>,
}

impl LargeTiles {
    pub fn new<F: Format>(layer: &Layer, images: usize) -> Self {
        let grid = Grid::new(layer, LARGE, AT_A_TIME);
        let elements = grid.most(images, F::VALUES);
        let inputs = Blocks::new(elements, layer.input_parts(), INPUT_BLOCK);
        let outputs = Blocks::new(elements, layer.output_parts(), OUTPUT_BLOCK);
        let products = PLACES * (inputs.channels() * outputs.block + 1);
        Self {
            grid,
            inputs,
            outputs,
            products: Aligned::zeros(products),
        }
    }

    /// Weights of the gradient.
    pub fn sums(&self) -> usize {
        TAPS * TAPS * self.inputs.parts * PANEL * self.outputs.parts * PANEL
    }

    /// Adds to the gradient `kernel` `[3, 3, C, O]` what images `a` and the gradient `d` of their results add to it.
    #[inline(always)]
    pub fn add<S: Set, F: Format>(
        &mut self,
        set: S,
        a: &[Padded<F>],
        d: &[Padded<F>],
        kernel: &mut [f32],
    ) {
        let kernel = kernel.as_chunks_mut().0;
        for run in self.grid.runs(a.len(), F::VALUES) {
            let corners = self.grid.corners(run.clone());
            self.inputs.fill::<Inputs, S, F, SIDE>(set, corners, a, 0);
            let corners = self.grid.corners(run.clone());
            let outputs = &mut self.outputs;
            outputs.fill::<OutputGradients, S, F, LARGE>(set, corners, d, 1);
            let elements = run.len().div_ceil(F::VALUES);
            for c in (0..self.inputs.parts).step_by(self.inputs.block) {
                for o in (0..self.outputs.parts).step_by(self.outputs.block) {
                    self.multiply::<S, F>(set, [c, o], elements);
                    set.run(AddProducts {
                        tiles: self,
                        blocks: [c, o],
                        kernel,
                    });
                }
            }
        }
    }

    /// The products, over so many `elements`, of the blocks that begin with the parts `c` and `o`.
    #[inline(always)]
    fn multiply<S: Set, F: Format>(&mut self, set: S, [c, o]: [usize; 2], elements: usize) {
        let (inputs, outputs) = (&self.inputs, &self.outputs);
        let len = self.products.len() / PLACES;
        for (place, products) in self.products.chunks_exact_mut(len).enumerate() {
            let product = Product {
                left: Left {
                    data: inputs.matrix(c, place),
                    row: 1,
                    step: inputs.channels(),
                    segment: 0,
                },
                right: Right {
                    data: outputs.matrix(o, place),
                    step: outputs.channels(),
                    segment: 0,
                    panel: PANEL,
                },
                depth: Depth {
                    segments: 1,
                    length: elements,
                },
                rows: inputs.of_block(c) * PANEL,
                panels: outputs.of_block(o),
            };
            let products = products.as_flattened_mut();
            product.compute::<S, F>(set, products, outputs.channels(), false);
        }
    }
}

/// Adds the products of the blocks of inputs and outputs that begin with these parts to `kernel`, transformed.
struct AddProducts<'a> {
    tiles: &'a LargeTiles,
    blocks: [usize; 2],
    kernel: &'a mut [Lanes],
}

impl Task for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let LargeTiles {
            inputs,
            outputs,
            products,
            ..
        } = self.tiles;
        let [c, o] = self.blocks;
        let steps = square_steps(SIDE, products.len() / PLACES);
        let tap = inputs.parts * PANEL * outputs.parts;
        for row in 0..inputs.of_block(c) * PANEL {
            for panel in 0..outputs.of_block(o) {
                let from = &products[row * outputs.block + panel..];
                let to = &mut self.kernel[(c * PANEL + row) * outputs.parts + o + panel..];
                for n in 0..registers::<S>() {
                    let weights = <WeightGradients as Transform<SIDE, TAPS>>::of::<S, F32>(
                        set, from, steps, n,
                    );
                    for (index, weight) in weights.as_flattened().iter().enumerate() {
                        let to = &mut to[index * tap];
                        put(set, to, n, set.add(get(set, to, n), *weight));
                    }
                }
            }
        }
    }
}

/// Tiles `[blocks, 36, tiles, channels of a block]`, or pairs of them: at each place of a block a matrix of elements.
struct Blocks {
    values: Aligned<Lanes>,
    parts: usize,
    /// Parts of a block, at most.
    block: usize,
    /// Lanes from a place to the next: a line more than its matrix has, because what lies powers of two apart shares few
    /// places of a cache.
    place: usize,
}

impl Blocks {
    /// Of so many `elements` of `parts` times 16 channels.
    fn new(elements: usize, parts: usize, block: usize) -> Self {
        let block = block.min(parts);
        let place = elements * block + 1;
        Self {
            values: Aligned::zeros(parts.div_ceil(block) * PLACES * place),
            parts,
            block,
            place,
        }
    }

    /// Of a block.
    fn channels(&self) -> usize {
        self.block * PANEL
    }

    /// Parts of the block that begins with `part`.
    fn of_block(&self, part: usize) -> usize {
        self.block.min(self.parts - part)
    }

    /// The matrix of a place in the block that begins with `part`.
    fn matrix(&self, part: usize, place: usize) -> &[f32] {
        let first = (part / self.block * PLACES + place) * self.place;
        self.values[first..].as_flattened()
    }

    /// The tiles at the `corners` of `images`, transformed. Their first pixels lie `border` pixels from the border's corner.
    #[inline(always)]
    fn fill<T: Transform<N, SIDE>, S: Set, F: Format, const N: usize>(
        &mut self,
        set: S,
        corners: impl Iterator<Item = [usize; 3]>,
        images: &[Padded<F>],
        border: usize,
    ) {
        let (steps, to_steps) = (images[0].steps(), square_steps(SIDE, self.place));
        let tiles = elements(corners, images, border).enumerate();
        for (tile, (first, second)) in tiles {
            for part in 0..self.parts {
                let (block, within) = (part / self.block, part % self.block);
                let at = block * PLACES * self.place + tile * self.block + within;
                let second = second.map(|second| &second[part..]);
                let (from, to) = (&first[part..], &mut self.values[at..]);
                T::elements::<S, F, F>(set, from, second, steps, to, to_steps);
            }
        }
    }
}
