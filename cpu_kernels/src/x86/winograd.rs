//! 3x3 layers without a stride by Winograd's F(2x2, 3x3): 16 multiplications for 2x2 results instead of 36.
//!
//! An image of results is divided into tiles of 2x2, each from 4x4 pixels. What they have at one of 16 places becomes a
//! matrix, and each of the three convolutions of a layer is 16 products of such matrices:
//!
//! ```text
//!  pixels ─► Inputs ──────────┐
//!                             ├─► products over the channels ─► Outputs ─► results       forwards, and with the turned
//!  kernel ─► Weights ─────────┘                                                          kernel backwards
//!  pixels ─► Inputs ──────────┐
//!                             ├─► products over the tiles ─► WeightGradients ─► gradient of the kernel
//!  gradient ► OutputGradients ┘
//! ```
//!
//! In bf16 a transform's results are rounded once, and stored as the pairs that the product takes.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::Aligned;
use super::format::{F32, Format, Lanes};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::layer::Layer;
use super::norm::lanes;
use super::padded::Padded;
use super::prefetch::Ahead;
use super::sets::{self, Set, Task};
use super::transforms::{Inputs, OutputGradients, Outputs, Transform, WeightGradients, Weights};
use super::walk::TAPS;
use crate::isa::Isa;

/// Places in a transformed tile.
const PLACES: usize = SIDE * SIDE;
const SIDE: usize = 4;

/// Parts of a result that are computed before they are transformed, at most: their products stay in a core's cache.
const TOGETHER: usize = 2;

/// Whether training computes the 3x3 layer `layer` in tiles. It depends on the layer alone, because the bits depend on it.
pub fn suits(layer: &Layer) -> bool {
    layer.stride == 1
}

/// Tiles that are multiplied at a time, at most, or pairs of them. With fewer, kernels that do not fit into a core's cache
/// would be read more often; with more, less of the tiles would fit into it.
fn at_a_time(layer: &Layer) -> usize {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    match inputs.max(outputs) >= 128 && inputs.min(outputs) >= 32 {
        true => 64,
        false => 32,
    }
}

/// The places of a kernel `[3, 3, C, O]`, as products over its channels C take them: `[O / 16, 16, C / VALUES, 16]` elements
/// of the format `F`.
pub fn transformed<F: Format>(isa: Isa, kernel: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let parts = outputs / PANEL;
    let len = PLACES * inputs / F::VALUES;
    let mut places = vec![[0.0; PANEL]; len * parts];
    let panels = places.par_chunks_mut(len).enumerate();
    panels.for_each(|(panel, places)| {
        let task = TransformedPanel::<F> {
            kernel: &lanes(kernel)[panel..],
            inputs,
            parts,
            places,
            format: PhantomData,
        };
        sets::run::<F, _>(isa, task);
    });
    places.into_flattened()
}

/// One panel of [`transformed`].
struct TransformedPanel<'a, F> {
    /// From the panel's first lanes on.
    kernel: &'a [Lanes],
    inputs: usize,
    parts: usize,
    places: &'a mut [Lanes],
    format: PhantomData<F>,
}

impl<F: Format> Task for TransformedPanel<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let steps = square_steps(TAPS, self.inputs * self.parts);
        let to_steps = square_steps(SIDE, self.inputs / F::VALUES);
        let channel = |c: usize| &self.kernel[c * self.parts..];
        for (element, c) in (0..self.inputs).step_by(F::VALUES).enumerate() {
            let (first, second) = (channel(c), channel(c + 1));
            let to = &mut self.places[element..];
            Weights::elements::<S, F32, F>(set, first, Some(second), steps, to, to_steps);
        }
    }
}

/// The steps of a square of `side` rows whose values are `step` lanes apart.
#[inline(always)]
fn square_steps(side: usize, step: usize) -> [usize; 2] {
    [side * step, step]
}

/// The matrices of a layer's tiles.
pub struct Tiles {
    grid: Grid,
    inputs: Matrices,
    outputs: Matrices,
    products: Matrices,
}

impl Tiles {
    /// `None` where it does not [suit](suits).
    pub fn new(layer: &Layer) -> Option<Self> {
        if !suits(layer) {
            return None;
        }
        let (inputs, outputs) = (layer.input_parts(), layer.output_parts());
        let at_a_time = at_a_time(layer);
        Some(Self {
            grid: Grid {
                height: layer.height,
                width: layer.width,
                at_a_time,
            },
            inputs: Matrices::new(at_a_time, inputs),
            outputs: Matrices::new(at_a_time, outputs),
            products: Matrices::new(at_a_time, TOGETHER.min(inputs.max(outputs))),
        })
    }

    /// Images that should be computed together: enough for the products over the tiles.
    pub fn images<F: Format>(&self) -> usize {
        (F::VALUES * self.grid.at_a_time / self.grid.tiles()).max(1)
    }

    /// How often one of the convolutions of `images` images [asks](Ahead::step) for what lies ahead.
    pub fn steps(&self, images: usize) -> usize {
        self.grid.runs(images, 1).count() * PLACES
    }

    /// The values of what [`Self::add_kernel_gradient`] adds to.
    pub fn gradient_len(&self) -> usize {
        PLACES * self.inputs.channels() * self.outputs.channels()
    }

    /// The results `y` `[n, H, W, O]` of the images `a`, with a kernel that is [`transformed`].
    #[inline(always)]
    pub fn forward<S: Set, F: Format>(
        &mut self,
        set: S,
        a: &[Padded<F>],
        kernel: &[f32],
        y: &mut [Lanes],
        ahead: &mut Ahead<F::Lanes>,
    ) {
        let matrices = [&mut self.inputs, &mut self.products];
        convolve(set, self.grid, a, kernel, matrices, y, ahead);
    }

    /// The gradient `da` `[n, H, W, C]` of the images, from that of their results `d`. The kernel is turned, and then
    /// [`transformed`].
    #[inline(always)]
    pub fn activation_gradient<S: Set, F: Format>(
        &mut self,
        set: S,
        d: &[Padded<F>],
        turned: &[f32],
        da: &mut [Lanes],
        ahead: &mut Ahead<F::Lanes>,
    ) {
        let matrices = [&mut self.outputs, &mut self.products];
        convolve(set, self.grid, d, turned, matrices, da, ahead);
    }

    /// Adds to `sums` `[16, C, O]` what becomes the kernel's gradient by [`kernel_gradient`], from images `a` and the
    /// gradient `d` of their results.
    #[inline(always)]
    pub fn add_kernel_gradient<S: Set, F: Format>(
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
            inputs.fill_along_tiles::<Inputs, S, F, 4>(set, self.grid, a, run.clone(), 0);
            outputs.fill_along_tiles::<OutputGradients, S, F, 2>(set, self.grid, d, run.clone(), 1);
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
}

/// The gradient of a kernel `[3, 3, C, O]`, from the `sums` of [`Tiles::add_kernel_gradient`].
#[inline(always)]
pub fn kernel_gradient<S: Set>(set: S, mut sums: Vec<f32>) -> Vec<f32> {
    let weights = sums.len() / PLACES;
    let lanes = sums.as_chunks_mut().0;
    WeightGradients::in_place(set, lanes, weights / PANEL);
    sums.truncate(TAPS * TAPS * weights);
    sums.shrink_to_fit();
    sums
}

/// The convolutions `y` of `images`: their tiles become the first matrices, and the second ones are the products of some
/// parts of 16 channels.
#[inline(always)]
fn convolve<S: Set, F: Format>(
    set: S,
    grid: Grid,
    images: &[Padded<F>],
    kernel: &[f32],
    [tiles, products]: [&mut Matrices; 2],
    y: &mut [Lanes],
    ahead: &mut Ahead<F::Lanes>,
) {
    let channels = tiles.channels() / F::VALUES;
    let len = channels * PANEL;
    let parts = kernel.len() / (PLACES * len);
    let row = products.row * PANEL;
    for run in grid.runs(images.len(), 1) {
        tiles.fill_along_channels::<S, F>(set, grid, images, run.clone());
        for first in (0..parts).step_by(products.parts) {
            let panels = first..parts.min(first + products.parts);
            for place in 0..PLACES {
                if first == 0 {
                    ahead.step();
                }
                let product = Product {
                    left: Left {
                        data: tiles.place(place, F::VALUES),
                        row: tiles.row * PANEL,
                        step: 1,
                        segment: 0,
                    },
                    right: Right {
                        data: &kernel[(first * PLACES + place) * len..],
                        step: PANEL,
                        segment: 0,
                        panel: PLACES * len,
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
            products.results(set, grid, run.clone(), panels, parts, y);
        }
    }
}

/// Images of one size in tiles of 2x2 pixels, numbered image by image and row by row. Those at the end of an odd side
/// reach beyond it.
#[derive(Clone, Copy)]
struct Grid {
    height: usize,
    width: usize,
    /// Tiles, or pairs of them.
    at_a_time: usize,
}

impl Grid {
    /// Of an image.
    fn tiles(self) -> usize {
        self.height.div_ceil(2) * self.width.div_ceil(2)
    }

    /// Of each of the tiles `run`: its image, and the row and the column of its first pixel.
    #[inline(always)]
    fn places(self, run: Range<usize>) -> impl Iterator<Item = [usize; 3]> {
        let across = self.width.div_ceil(2);
        let (image, tile) = (run.start / self.tiles(), run.start % self.tiles());
        let mut next = [image, tile / across * 2, tile % across * 2];
        run.map(move |_| {
            let place = next;
            let [image, i, j] = place;
            next = if j + 2 < self.width {
                [image, i, j + 2]
            } else if i + 2 < self.height {
                [image, i + 2, 0]
            } else {
                [image + 1, 0, 0]
            };
            place
        })
    }

    /// The tiles of `images` images, `values` of them in an element, in runs of almost equal length: the last of a product's
    /// rows would not use the registers if there were few of them.
    fn runs(self, images: usize, values: usize) -> impl Iterator<Item = Range<usize>> {
        const ROWS: usize = 4;
        let tiles = images * self.tiles();
        let runs = tiles.div_ceil(values * self.at_a_time);
        let len = tiles.div_ceil(runs).next_multiple_of(ROWS);
        (0..tiles)
            .step_by(len)
            .map(move |first| first..tiles.min(first + len))
    }
}

/// Tiles `[tiles, 16, C]`: at each of their 16 places a matrix `[tiles, C]`, of elements along the axis that a product sums,
/// f32 or pairs of bf16. Pairs along the channels fill the first half of a tile's lanes; pairs of tiles have lanes as one
/// of f32 has.
struct Matrices {
    values: Aligned<Lanes>,
    parts: usize,
    /// Lanes from a tile to the next. An odd number: what lies powers of two apart shares few places of a cache.
    row: usize,
}

impl Matrices {
    /// For `tiles` tiles, or pairs of them, of `parts` times 16 channels.
    fn new(tiles: usize, parts: usize) -> Self {
        let row = PLACES * parts + 1;
        Self {
            values: Aligned::zeros(tiles * row),
            parts,
            row,
        }
    }

    fn channels(&self) -> usize {
        self.parts * PANEL
    }

    /// The matrix of a place, of elements of which `along` values are along the channels.
    fn place(&self, place: usize, along: usize) -> &[f32] {
        &self.values.as_flattened()[place * self.channels() / along..]
    }

    fn place_mut(&mut self, place: usize) -> &mut [f32] {
        let first = place * self.channels();
        &mut self.values.as_flattened_mut()[first..]
    }

    /// The tiles `run` of `images`, transformed, as elements along the channels.
    #[inline(always)]
    fn fill_along_channels<S: Set, F: Format>(
        &mut self,
        set: S,
        grid: Grid,
        images: &[Padded<F>],
        run: Range<usize>,
    ) {
        let parts = self.parts;
        let to_steps = square_steps(SIDE, parts);
        let tiles = F::in_elements(&mut self.values).chunks_exact_mut(self.row * F::VALUES);
        for ([image, i, j], tile) in grid.places(run).zip(tiles) {
            let (pixels, steps) = (images[image].lanes_from(i, j), images[image].steps());
            for part in 0..parts {
                let (from, to) = (&pixels[part..], &mut tile[part..]);
                Inputs::square::<S, F, F>(set, from, steps, to, to_steps, [SIDE, SIDE]);
            }
        }
    }

    /// The tiles `run` of `images`, transformed, as elements along the tiles. Their first pixels lie `border` pixels from
    /// the border's corner.
    #[inline(always)]
    fn fill_along_tiles<T: Transform<N, SIDE>, S: Set, F: Format, const N: usize>(
        &mut self,
        set: S,
        grid: Grid,
        images: &[Padded<F>],
        run: Range<usize>,
        border: usize,
    ) {
        let parts = self.parts;
        let to_steps = square_steps(SIDE, parts);
        let mut places = grid.places(run);
        let pixels = |[image, i, j]: [usize; 3]| images[image].lanes_from(i + border, j + border);
        for tile in self.values.chunks_exact_mut(self.row) {
            let Some(first) = places.next() else { break };
            let second = if F::VALUES > 1 { places.next() } else { None };
            let (steps, first, second) =
                (images[first[0]].steps(), pixels(first), second.map(pixels));
            for part in 0..parts {
                let second = second.map(|second| &second[part..]);
                let (from, to) = (&first[part..], &mut tile[part..]);
                T::elements::<S, F, F>(set, from, second, steps, to, to_steps);
            }
        }
    }

    /// The results of the tiles `run`, transformed, to the parts `panels` of images `y` `[n, H, W, C]` that have `parts`.
    #[inline(always)]
    fn results<S: Set>(
        &self,
        set: S,
        grid: Grid,
        run: Range<usize>,
        panels: Range<usize>,
        parts: usize,
        y: &mut [Lanes],
    ) {
        let steps = square_steps(SIDE, self.parts);
        let to_steps = square_steps(grid.width, parts);
        for ([image, i, j], tile) in grid.places(run).zip(self.values.chunks_exact(self.row)) {
            let pixel = (image * grid.height + i) * grid.width + j;
            let y = &mut y[pixel * parts..];
            for (panel, part) in panels.clone().enumerate() {
                let (from, to) = (&tile[panel..], &mut y[part..]);
                // Almost all tiles lie inside: for them the compiler knows how many rows and columns there are.
                if i + 1 < grid.height && j + 1 < grid.width {
                    Outputs::square::<S, F32, F32>(set, from, steps, to, to_steps, [2, 2]);
                } else {
                    let inside = [grid.height - i, grid.width - j];
                    Outputs::square::<S, F32, F32>(set, from, steps, to, to_steps, inside);
                }
            }
        }
    }
}
