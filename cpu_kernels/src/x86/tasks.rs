//! How a layer's images are shared out among threads.

use rayon::prelude::*;

use super::format::Format;
use super::layer::{BackwardShare, Gradients, Layer, OutputGradient, Part};
use super::norm::{Moments, Norm};

/// Tasks of a batch. It does not depend on the number of threads, so that sums are always taken in the
/// same order and runs repeat bit by bit.
const TASKS: usize = 16;

/// Runs `task` on each share of the images, for a layer's result `y` and the moments of its channels.
/// A task gets its images of `x`, the index in `y` at which its results begin, and the results.
pub fn forward<L: Send + Sync>(
    layer: &Layer,
    x: &[L],
    y: &mut [L],
    moments: &mut [f32],
    task: impl Fn(&[L], usize, &mut [L]) -> Moments + Sync,
) {
    let parts = share_out(layer, x, y, layer.output_len(), task);
    Moments::total(parts, moments);
}

/// Runs `task` on each share of the images, for a layer's gradients `out`.
pub fn backward<F: Format>(
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    turned: &[f32],
    dy: &OutputGradient<F>,
    out: &mut Gradients<F>,
    task: impl Fn(BackwardShare<F>) -> Part + Sync,
) {
    let parts = share_out(layer, x, out.dz, layer.input_len(), |x, start, dz| {
        task(BackwardShare {
            layer,
            norm,
            x,
            turned,
            dy,
            start,
            dz,
        })
    });
    out.total(&parts, norm);
}

/// What `task` returns for each share, in order. `out` has `len` lanes an image.
fn share_out<L: Send + Sync, T: Send>(
    layer: &Layer,
    x: &[L],
    out: &mut [L],
    len: usize,
    task: impl Fn(&[L], usize, &mut [L]) -> T + Sync,
) -> Vec<T> {
    let images = layer.images.div_ceil(TASKS).max(1);
    let shares = out.par_chunks_mut(images * len).enumerate();
    let results = shares.map(|(index, out)| {
        let first = index * images;
        task(
            &x[first * layer.input_len()..],
            first * layer.output_len(),
            out,
        )
    });
    results.collect()
}
