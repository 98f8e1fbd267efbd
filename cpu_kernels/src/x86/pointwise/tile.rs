//! A tile of pixels: the input under it, its activations, and its products.

use crate::x86::format::{Format, Lanes, registers};
use crate::x86::gemm::{Depth, Left, PANEL, Product, Right};
use crate::x86::layer::Layer;
use crate::x86::norm::Norm;
use crate::x86::prefetch::some;
use crate::x86::sets::Set;
use crate::x86::tiles::tiles_for;

/// Pixels of a tile: what stays in a first or second level cache with all its channels. Even, for pairs of pixels.
pub const TILE: usize = 96;

/// Pixels whose products with `panels` panels are computed before they are used: as many as fill the registers, so that the
/// next multiplications go on beside that. On tiles, all.
#[inline(always)]
pub fn rows_of_block<S: Set, F: Format>(set: S, panels: usize) -> usize {
    if tiles_for::<S, F>(set).is_some() {
        return TILE;
    }
    S::height(TILE, panels.min(S::PANELS), F::VALUES > 1)
}

/// Multiplications of a value of a tile with a panel of the kernel.
pub fn multiplications<F: Format>(layer: &Layer) -> usize {
    TILE * layer.input_parts() * F::ELEMENTS * layer.output_parts()
}

/// The input's pixels under those of tiles.
pub struct Inputs<'a, F: Format> {
    layer: &'a Layer,
    /// Of a tile, where they do not follow one another.
    gathered: Vec<F::Lanes>,
}

impl<'a, F: Format> Inputs<'a, F> {
    pub fn new(layer: &'a Layer) -> Self {
        Self {
            layer,
            gathered: Vec::new(),
        }
    }

    /// Lanes that `count` of them take where they do not follow one another.
    pub fn scattered(&self, count: usize) -> usize {
        match self.layer.stride {
            1 => 0,
            _ => count * self.layer.input_parts(),
        }
    }

    /// Those of `x` under the tile behind the one from `first` on, where they follow one another; otherwise none.
    pub fn of_next_tile<'t>(&self, x: &'t [F::Lanes], first: usize) -> &'t [F::Lanes] {
        let parts = self.layer.input_parts();
        match self.layer.stride {
            1 => some(x, (first + TILE) * parts, TILE * parts),
            _ => &[],
        }
    }

    /// Those of `x` under `count` output pixels from `first` on, `[count, C]`.
    pub fn of_tile<'t>(
        &'t mut self,
        x: &'t [F::Lanes],
        first: usize,
        count: usize,
    ) -> &'t [F::Lanes] {
        let parts = self.layer.input_parts();
        if self.layer.stride == 1 {
            return &x[first * parts..][..count * parts];
        }
        self.gathered.clear();
        for pixel in first..first + count {
            let at = input_pixel(self.layer, pixel) * parts;
            self.gathered.extend_from_slice(&x[at..at + parts]);
        }
        &self.gathered
    }
}

/// The input pixel under output pixel `index`, both counted over a task's images.
#[inline(always)]
pub fn input_pixel(layer: &Layer, index: usize) -> usize {
    if layer.stride == 1 {
        return index;
    }
    let (image, pixel) = (index / layer.output_pixels(), index % layer.output_pixels());
    let (i, j) = (pixel / layer.output_width(), pixel % layer.output_width());
    image * layer.input_pixels() + i * layer.stride * layer.width + j * layer.stride
}

/// The activations of a tile's pixels `x` `[pixels, C]`, in panels.
#[inline(always)]
pub fn activate<S: Set, F: Format>(set: S, norm: &Norm, x: &[F::Lanes], tile: &mut [F::Lanes]) {
    let parts = norm.mean.len();
    for (part, panel) in tile.chunks_exact_mut(TILE).enumerate() {
        for n in 0..registers::<S>() {
            let norm = norm.of_register(set, part, n);
            for (x, lanes) in x.chunks_exact(parts).zip(&mut *panel) {
                let a = norm.activate(set, F::get(set, &x[part], n));
                F::put(set, lanes, n, a);
            }
        }
    }
    end_pairs::<F>(tile, x.len() / parts);
}

/// Where `count` pixels do not fill their last pair, zeros do.
#[inline(always)]
pub fn end_pairs<F: Format>(tile: &mut [F::Lanes], count: usize) {
    if !count.is_multiple_of(F::VALUES) {
        tile.iter_mut()
            .skip(count)
            .step_by(TILE)
            .for_each(|lanes| *lanes = F::ZERO);
    }
}

/// `out` `[count, columns]` = `tile` (panels) x `matrix` (packed), or that added to it.
#[inline(always)]
pub fn product<S: Set, F: Format>(
    set: S,
    tile: &[F::Lanes],
    matrix: &[f32],
    count: usize,
    out: &mut [Lanes],
    add: bool,
) {
    let panels = out.len() / count;
    let product = product_of_parts::<F>(tile, matrix, [0, 0], [count, panels]);
    product.compute::<S, F>(set, out.as_flattened_mut(), panels * PANEL, add);
}

/// Some of the same: `rows` rows from `row` on, and `panels` panels from `panel` on.
#[inline(always)]
pub fn product_of_parts<'a, F: Format>(
    tile: &'a [F::Lanes],
    matrix: &'a [f32],
    [row, panel]: [usize; 2],
    [rows, panels]: [usize; 2],
) -> Product<'a> {
    let depth = Depth {
        segments: tile.len() / TILE,
        length: F::ELEMENTS,
    };
    let of_panel = depth.segments * depth.length * PANEL;
    Product {
        left: Left {
            data: F::elements(&tile[row..]),
            row: F::ELEMENTS,
            step: 1,
            segment: TILE * F::ELEMENTS,
        },
        right: Right {
            data: &matrix[panel * of_panel..],
            step: PANEL,
            segment: depth.length * PANEL,
            panel: of_panel,
        },
        depth,
        rows,
        panels,
    }
}
