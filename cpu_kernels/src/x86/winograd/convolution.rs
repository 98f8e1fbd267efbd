//! A convolution in tiles: products over the channels.

use std::ops::Range;

use super::super::format::{F32, Format, Lanes};
use super::super::gemm::{Depth, Left, PANEL, Product, Right};
use super::super::layer::Layer;
use super::super::padded::Padded;
use super::super::prefetch::Ahead;
use super::super::sets::{Set, Task};
use super::grid::Grid;
use super::matrices::Matrices;
use super::transforms::{Inputs, Outputs, Transform};
use super::{LARGE, SMALL, places, small_at_a_time, square_steps};

/// The tiles of some images, and their products with a kernel.
pub struct Convolution {
    grid: Grid,
    tiles: Matrices,
    products: Matrices,
}

impl Convolution {
    /// From a layer's input to its output, in tiles with so many `results` along a side, for `images` images at most.
    pub fn forward(layer: &Layer, results: usize, images: usize) -> Self {
        let parts = [layer.input_parts(), layer.output_parts()];
        Self::new(layer, results, images, parts)
    }

    /// From the gradient of a layer's output to that of its input.
    pub fn back(layer: &Layer, results: usize, images: usize) -> Self {
        let parts = [layer.output_parts(), layer.input_parts()];
        Self::new(layer, results, images, parts)
    }

    fn new(layer: &Layer, results: usize, images: usize, [from, to]: [usize; 2]) -> Self {
        // The products of a few parts stay in a core's cache until they are transformed.
        let (at_a_time, together) = match results {
            LARGE => (24, 4),
            _ => (small_at_a_time(layer), 2),
        };
        let grid = Grid::new(layer, results, at_a_time);
        let tiles = grid.most(images, 1);
        Self {
            grid,
            tiles: Matrices::new(grid, tiles, from),
            products: Matrices::new(grid, tiles, to.min(together)),
        }
    }

    /// Images that should be computed together.
    pub fn images<F: Format>(&self) -> usize {
        self.grid.images::<F>()
    }

    /// How often [`Self::compute`] [asks](Ahead::pass) for what lies ahead of `images` images.
    pub fn steps(&self, images: usize) -> usize {
        self.grid.runs(images, 1).count() * places(self.grid.results)
    }

    /// The convolutions `y` `[n, H, W, O]` of `images`, with a kernel that is [transformed](super::transformed): their tiles
    /// become the first matrices, and the second ones are the products of some parts of 16 channels.
    #[inline(always)]
    pub fn compute<S: Set, F: Format>(
        &mut self,
        set: S,
        images: &[Padded<F>],
        kernel: &[f32],
        y: &mut [Lanes],
        ahead: &mut Ahead,
    ) {
        set.run(Compute {
            convolution: self,
            images,
            kernel,
            y,
            ahead,
        });
    }
}

/// [`Convolution::compute`].
struct Compute<'a, F: Format> {
    convolution: &'a mut Convolution,
    images: &'a [Padded<F>],
    kernel: &'a [f32],
    y: &'a mut [Lanes],
    ahead: &'a mut Ahead,
}

impl<F: Format> Task for Compute<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let Self {
            images,
            kernel,
            y,
            ahead,
            ..
        } = self;
        let Convolution {
            grid,
            tiles,
            products,
        } = self.convolution;
        let places = places(grid.results);
        let channels = tiles.channels() / F::VALUES;
        let len = channels * PANEL;
        let parts = kernel.len() / (places * len);
        let row = products.row * PANEL;
        for run in grid.runs(images.len(), 1) {
            set.run(Fill {
                grid: *grid,
                run: run.clone(),
                images,
                matrices: tiles,
            });
            for first in (0..parts).step_by(products.parts) {
                let panels = first..parts.min(first + products.parts);
                for place in 0..places {
                    if first == 0 {
                        ahead.pass(1);
                    }
                    let product = Product {
                        left: Left {
                            data: tiles.place(place, F::VALUES),
                            row: tiles.row * PANEL,
                            step: 1,
                            segment: 0,
                        },
                        right: Right {
                            data: &kernel[(first * places + place) * len..],
                            step: PANEL,
                            segment: 0,
                            panel: places * len,
                        },
                        depth: Depth {
                            segments: 1,
                            length: channels,
                        },
                        rows: run.len(),
                        panels: panels.len(),
                    };
                    product.compute::<S, F>(set, products.place_mut(place), row, false);
                }
                set.run(Results {
                    grid: *grid,
                    run: run.clone(),
                    products,
                    panels,
                    parts,
                    y,
                });
            }
        }
    }
}

/// The tiles `run` of `images`, transformed, as `matrices`.
struct Fill<'a, F: Format> {
    grid: Grid,
    run: Range<usize>,
    images: &'a [Padded<F>],
    matrices: &'a mut Matrices,
}

impl<F: Format> Task for Fill<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        match self.grid.results {
            LARGE => self.tiles::<S, 6>(set),
            _ => self.tiles::<S, 4>(set),
        }
    }
}

impl<F: Format> Fill<'_, F> {
    #[inline(always)]
    fn tiles<S: Set, const SIDE: usize>(self, set: S)
    where
        Inputs: Transform<SIDE, SIDE>,
    {
        let parts = self.matrices.parts;
        let to_steps = square_steps(SIDE, parts);
        let row = self.matrices.row * F::VALUES;
        let tiles = F::in_elements(&mut self.matrices.values).chunks_exact_mut(row);
        for ([image, i, j], tile) in self.grid.corners(self.run).zip(tiles) {
            let image = &self.images[image];
            let (pixels, steps) = (image.lanes_from(i, j), image.steps());
            for part in 0..parts {
                let (from, to) = (&pixels[part..], &mut tile[part..]);
                Inputs::square::<S, F, F>(set, from, steps, to, to_steps, [SIDE, SIDE]);
            }
        }
    }
}

/// The results of `products` of the tiles `run`, transformed, to the parts `panels` of images `y` `[n, H, W, O]` that have
/// `parts`.
struct Results<'a> {
    grid: Grid,
    run: Range<usize>,
    products: &'a Matrices,
    panels: Range<usize>,
    parts: usize,
    y: &'a mut [Lanes],
}

impl Task for Results<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        match self.grid.results {
            LARGE => self.tiles::<S, LARGE, 6>(set),
            _ => self.tiles::<S, SMALL, 4>(set),
        }
    }
}

impl Results<'_> {
    #[inline(always)]
    fn tiles<S: Set, const RESULTS: usize, const SIDE: usize>(self, set: S)
    where
        Outputs: Transform<SIDE, RESULTS>,
    {
        let Self { grid, parts, .. } = self;
        let steps = square_steps(SIDE, self.products.parts);
        let to_steps = square_steps(grid.width, parts);
        let tiles = self.products.values.chunks_exact(self.products.row);
        for ([image, i, j], tile) in grid.corners(self.run).zip(tiles) {
            let pixel = (image * grid.height + i) * grid.width + j;
            let y = &mut self.y[pixel * parts..];
            for (panel, part) in self.panels.clone().enumerate() {
                let (from, to) = (&tile[panel..], &mut y[part..]);
                let inside = [grid.height - i, grid.width - j];
                Outputs::square::<S, F32, F32>(set, from, steps, to, to_steps, inside);
            }
        }
    }
}
