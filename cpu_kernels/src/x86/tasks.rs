//! How a layer's images are shared out among threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::format::Format;
use super::layer::{BackwardShare, Gradients, Layer, Output, OutputGradient, Part};
use super::norm::{Moments, Norm};

/// Tasks of a batch. It does not depend on the number of threads, so that sums are always taken in the
/// same order and runs repeat bit by bit.
const TASKS: usize = 16;

/// Calls of [`to_and_fro`].
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The results of `task` on each of `shares`, in their order. Every other call begins with the last share: what a kernel
/// reads is what the one before wrote or read, and of that the cache still has the end.
pub fn to_and_fro<T: Send, R: Send>(mut shares: Vec<T>, task: impl Fn(T) -> R + Sync) -> Vec<R> {
    let backwards = CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    if backwards {
        shares.reverse();
    }
    let mut results: Vec<R> = shares.into_par_iter().map(&task).collect();
    if backwards {
        results.reverse();
    }
    results
}

/// Images of a task.
pub fn images_of_a_task(layer: &Layer) -> usize {
    layer.images.div_ceil(TASKS).max(1)
}

/// One task of a forward kernel: some of the images.
pub struct ForwardShare<'a, F: Format> {
    pub layer: &'a Layer,
    pub norm: &'a Norm,
    /// From its first image on, and so is `skip`.
    pub x: &'a [F::Lanes],
    /// Packed, for the way in which the layer is computed.
    pub kernel: &'a [f32],
    pub skip: Option<&'a [F::Lanes]>,
    pub y: &'a mut [F::Lanes],
    pub chosen: &'a mut [F::Lanes],
}

/// Runs `task` on each share of the images, for a layer's results `out`.
pub fn forward<F: Format>(
    layer: &Layer,
    norm: &Norm,
    x: &[F::Lanes],
    kernel: &[f32],
    skip: Option<&[F::Lanes]>,
    out: &mut Output<F>,
    task: impl Fn(ForwardShare<F>) -> Moments + Sync,
) {
    let images = images_of_a_task(layer);
    let len = images * layer.result_len();
    let mut chosen = out.chosen.chunks_mut(len);
    let shares = out.y.chunks_mut(len).enumerate();
    let shares = shares.map(|(index, y)| ForwardShare {
        layer,
        norm,
        x: &x[index * images * layer.input_len()..],
        kernel,
        skip: skip.map(|skip| &skip[index * len..]),
        y,
        chosen: chosen.next().unwrap_or_default(),
    });
    let parts = to_and_fro(shares.collect(), task);
    Moments::total(parts, out.moments);
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
    let images = images_of_a_task(layer);
    let mut sums = out.dy.chunks_mut(images * layer.result_len());
    let shares = out.dz.chunks_mut(images * layer.input_len()).enumerate();
    let shares = shares.map(|(index, dz)| {
        let first = index * images;
        BackwardShare {
            layer,
            norm,
            x: &x[first * layer.input_len()..],
            turned,
            dy,
            start: first * layer.result_len(),
            sum: sums.next().unwrap_or_default(),
            dz,
        }
    });
    let parts = to_and_fro(shares.collect(), task);
    out.total(&parts, norm);
}
