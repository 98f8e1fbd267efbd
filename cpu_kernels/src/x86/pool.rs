//! Max pooling over squares of 2x2 pixels of a convolution's output.

use super::format::{Format, Lanes, get, put, registers};
use super::layer::Layer;
use super::sets::Set;

/// The numbers of a square's pixels, row by row.
const NUMBERS: [f32; 4] = [0.0, 1.0, 2.0, 3.0];

/// `pooled` = the largest value of each square of an image's `output`, and in `chosen` the number of its pixel; of equal
/// values the first.
#[inline(always)]
pub fn largest<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    output: &[Lanes],
    pooled: &mut [Lanes],
    chosen: &mut [F::Lanes],
) {
    let (parts, width) = (layer.output_parts(), layer.output_width());
    let pixels = pooled.chunks_exact_mut(parts);
    for (pixel, (pooled, chosen)) in pixels.zip(chosen.chunks_exact_mut(parts)).enumerate() {
        let (i, j) = (pixel / layer.result_width(), pixel % layer.result_width());
        let first = 2 * i * width + 2 * j;
        let square = [first, first + 1, first + width, first + width + 1];
        for part in 0..parts {
            for n in 0..registers::<S>() {
                let mut most = get(set, &output[first * parts + part], n);
                let mut number = set.zero();
                for (pixel, own) in square.iter().zip(&NUMBERS).skip(1) {
                    let value = get(set, &output[pixel * parts + part], n);
                    // SAFETY: a value lies where a reference points.
                    let own = unsafe { set.broadcast(own) };
                    number = set.where_larger(value, most, own, number);
                    most = set.larger(most, value);
                }
                put(set, &mut pooled[part], n, most);
                F::put(set, &mut chosen[part], n, number);
            }
        }
    }
}

/// The way back of [`largest`]: register `n` of the gradient of an image's output for the channels `part` of `pixel`,
/// from `dy`, the gradient of the result, and what was `chosen`, of one image each.
#[inline(always)]
pub fn gradient<S: Set, F: Format>(
    set: S,
    layer: &Layer,
    [dy, chosen]: [&[F::Lanes]; 2],
    pixel: usize,
    part: usize,
    n: usize,
) -> S::Register {
    let (i, j) = (pixel / layer.output_width(), pixel % layer.output_width());
    let (row, column) = (i / 2, j / 2);
    if row >= layer.result_height() || column >= layer.result_width() {
        return set.zero();
    }
    let at = (row * layer.result_width() + column) * layer.output_parts() + part;
    // SAFETY: a value lies where a reference points.
    let own = unsafe { set.broadcast(&NUMBERS[i % 2 * 2 + j % 2]) };
    set.where_equal(F::get(set, &chosen[at], n), own, F::get(set, &dy[at], n))
}
