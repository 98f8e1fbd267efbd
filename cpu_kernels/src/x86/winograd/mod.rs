//! 3x3 layers without a stride in tiles, by Winograd: F(2x2, 3x3) takes 16 multiplications for 2x2 results instead of 36, and
//! F(4x4, 3x3) takes 36 for 4x4 instead of 144.
//!
//! An image of results is divided into tiles of 2x2, each from 4x4 pixels, or of 4x4, each from 6x6. What they have at one
//! of these places becomes a matrix, and each of the three convolutions of a layer is a product of such matrices for each
//! place:
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

mod convolution;
mod grid;
mod kernel_gradient;
mod matrices;
mod transforms;
mod weights;

pub use convolution::Convolution;
pub use kernel_gradient::KernelGradient;
pub use weights::{packed, transformed};

use super::format::Format;
use super::layer::Layer;
use super::tasks::images_of_a_task;
use super::walk::TAPS;
use crate::isa::Isa;

/// Results along a side of a tile.
const SMALL: usize = 2;
const LARGE: usize = 4;

/// Results along a side of the tiles in which training computes the 3x3 layer `layer`, or `None` where it computes it
/// directly: with a stride, and where registers multiply whole matrices, as the transforms take longer than the
/// products that they save. It depends on nothing else, because the bits depend on it.
pub fn tile<F: Format>(isa: Isa, layer: &Layer) -> Option<usize> {
    if layer.stride != 1 || multiplies_matrices::<F>(isa) {
        return None;
    }
    let tiles = |results: usize| layer.height.div_ceil(results) * layer.width.div_ceil(results);
    let has_fewer_products = tiles(LARGE) * places(LARGE) < tiles(SMALL) * places(SMALL);
    // A transformed kernel is read from memory once for each run of a task's tiles, where it does not fit into a cache: for
    // few of them that takes longer than the products that large tiles save.
    let is_read_seldom =
        layer.inputs * layer.outputs <= 160 * 160 || images_of_a_task(layer) * tiles(LARGE) >= 16;
    let is_large = has_fewer_products && is_read_seldom;
    Some(if is_large { LARGE } else { SMALL })
}

/// Whether products of the format `F` are computed on AMX's tiles.
fn multiplies_matrices<F: Format>(isa: Isa) -> bool {
    F::VALUES > 1 && isa == Isa::Amx
}

/// The same where inference takes each image through the layer on its own: the largest tiles of which an image has at least
/// four along either side. With fewer, a kernel that is larger once it is transformed would be read for few products. How
/// many images there are is left out, because no image's bits depend on the others.
pub fn tile_of_an_image<F: Format>(isa: Isa, layer: &Layer) -> Option<usize> {
    if layer.side != TAPS || layer.stride != 1 || multiplies_matrices::<F>(isa) {
        return None;
    }
    let side = layer.height.min(layer.width);
    let sizes = [LARGE, SMALL];
    sizes
        .into_iter()
        .find(|results| side.div_ceil(*results) >= 4)
}

/// Pixels of a tile with so many `results` along a side, and places of what it is transformed into.
const fn places(results: usize) -> usize {
    let side = results + TAPS - 1;
    side * side
}

/// The steps of a square of `side` rows whose values are `step` lanes apart.
#[inline(always)]
fn square_steps(side: usize, step: usize) -> [usize; 2] {
    [side * step, step]
}

/// Small tiles, or pairs of them, that are multiplied at a time. With fewer, kernels that do not fit into a core's cache
/// would be read more often; with more, less of the tiles would fit into it.
fn small_at_a_time(layer: &Layer) -> usize {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    match inputs.max(outputs) >= 128 && inputs.min(outputs) >= 32 {
        true => 64,
        false => 32,
    }
}
