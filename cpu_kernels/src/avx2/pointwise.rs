//! 1x1 convolutions, with any stride: products of a tile of pixels with the kernel.
//!
//! A tile's activations are computed into panels of 16 channels, `[C / 16, TILE, 16]`, which stay in
//! the cache; they never reach memory.

use super::gemm::{Depth, Left, PANEL, Right, assert_supported, multiply, pack};
use super::layer::{Gradients, Layer, OutputGradient, Part, transpose};
use super::norm::{Lanes, Moments, Norm, Sums};
use super::tasks;

/// Pixels of a tile: what stays in a first or second level cache with all its channels.
const TILE: usize = 96;

/// y = conv(relu(norm(x))) `[N, h, w, O]`, with `skip` added where there is one; the mean and the
/// variance of each output channel go into `moments` `[2, O]`.
pub fn forward(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    skip: Option<&[Lanes]>,
    y: &mut [Lanes],
    moments: &mut [f32],
) {
    assert_supported();
    let kernel = pack(kernel, layer.inputs, layer.outputs);
    tasks::forward(layer, x, y, moments, |x, start, y| {
        let skip = skip.map(|skip| &skip[start..]);
        // SAFETY: the processor has the instructions, as asserted above.
        unsafe { forward_task(layer, norm, x, &kernel, skip, y) }
    });
}

#[target_feature(enable = "avx2,fma")]
fn forward_task(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    skip: Option<&[Lanes]>,
    y: &mut [Lanes],
) -> Moments {
    let parts = layer.output_parts();
    let pixels = y.len() / parts;
    let mut tile = vec![[0.0; PANEL]; TILE * layer.input_parts()];
    let mut sums = Sums::new(parts);
    let mut pivot = vec![[0.0; PANEL]; parts];
    for first in (0..pixels).step_by(TILE) {
        let count = TILE.min(pixels - first);
        activate(layer, norm, x, first, count, &mut tile);
        let y = &mut y[first * parts..][..count * parts];
        product(&tile, kernel, layer.inputs, layer.outputs, count, y);
        if let Some(skip) = skip {
            add(y, &skip[first * parts..]);
        }
        if first == 0 {
            pivot.copy_from_slice(&y[..parts]);
        }
        sums.add_moments(y, &pivot);
    }
    Moments::new(sums, &pivot, pixels)
}

/// The gradients of [`forward`] at `x`.
pub fn backward(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    kernel: &[f32],
    dy: &OutputGradient,
    out: &mut Gradients,
) {
    assert_supported();
    let turned = transpose(kernel, layer.inputs, layer.outputs);
    let turned = pack(&turned, layer.outputs, layer.inputs);
    tasks::backward(layer, norm, x, out, |x, start, dz| {
        // SAFETY: the processor has the instructions, as asserted above.
        unsafe { backward_task(layer, norm, x, &turned, dy, start, dz) }
    });
}

/// `start`: where the task's first output pixel lies in `dy`.
#[target_feature(enable = "avx2,fma")]
fn backward_task(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    turned: &[f32],
    dy: &OutputGradient,
    start: usize,
    dz: &mut [Lanes],
) -> Part {
    let (inputs, outputs) = (layer.input_parts(), layer.output_parts());
    let pixels = dz.len() / layer.input_len() * layer.output_pixels();
    let mut sums = Sums::new(inputs);
    let mut kernel = vec![0.0; layer.kernel_len()];
    let mut a = vec![[0.0; PANEL]; TILE * inputs];
    let mut d = vec![[0.0; PANEL]; TILE * outputs];
    let mut da = vec![[0.0; PANEL]; TILE * inputs];
    if layer.stride > 1 {
        dz.fill([0.0; PANEL]);
    }
    for first in (0..pixels).step_by(TILE) {
        let count = TILE.min(pixels - first);
        activate(layer, norm, x, first, count, &mut a);
        for p in 0..count {
            for part in 0..outputs {
                d[part * TILE + p] = dy.at(start + (first + p) * outputs + part, part);
            }
        }
        kernel_gradient(&a, &d, layer, count, &mut kernel);
        product(&d, turned, layer.outputs, layer.inputs, count, &mut da);
        for p in 0..count {
            let at = input_pixel(layer, first + p) * inputs;
            for part in 0..inputs {
                let a = &a[part * TILE + p];
                let (x, mean) = (&x[at + part], &norm.mean[part]);
                dz[at + part] = sums.add_gradient(part, &da[p * inputs + part], a, x, mean);
            }
        }
        sums.flush();
    }
    Part {
        sums: sums.finish(),
        kernel,
    }
}

/// The input pixel under output pixel `index`, both counted over a task's images.
#[inline(always)]
fn input_pixel(layer: &Layer, index: usize) -> usize {
    if layer.stride == 1 {
        return index;
    }
    let (image, pixel) = (index / layer.output_pixels(), index % layer.output_pixels());
    let (i, j) = (pixel / layer.output_width(), pixel % layer.output_width());
    image * layer.input_pixels() + i * layer.stride * layer.width + j * layer.stride
}

/// The activations under `count` output pixels from `first`, in panels.
#[inline(always)]
fn activate(
    layer: &Layer,
    norm: &Norm,
    x: &[Lanes],
    first: usize,
    count: usize,
    tile: &mut [Lanes],
) {
    let parts = layer.input_parts();
    for p in 0..count {
        let at = input_pixel(layer, first + p) * parts;
        for (part, x) in x[at..at + parts].iter().enumerate() {
            tile[part * TILE + p] = norm.activate(part, x);
        }
    }
}

/// `out` `[count, columns]` = `tile` (panels of `depth` channels) x `matrix` (packed).
#[inline(always)]
fn product(
    tile: &[Lanes],
    matrix: &[f32],
    depth: usize,
    columns: usize,
    count: usize,
    out: &mut [Lanes],
) {
    let left = Left {
        data: tile.as_flattened(),
        row: PANEL,
        step: 1,
        segment: TILE * PANEL,
    };
    let runs = Depth {
        segments: depth / PANEL,
        length: PANEL,
    };
    let out = out.as_flattened_mut();
    for panel in 0..columns / PANEL {
        let right = Right {
            data: &matrix[panel * depth * PANEL..][..depth * PANEL],
            step: PANEL,
            segment: PANEL * PANEL,
        };
        let out = &mut out[panel * PANEL..];
        multiply(left, right, runs, count, out, columns, false);
    }
}

/// Adds aᵀ · d of a tile to `kernel` `[C, O]`.
#[inline(always)]
fn kernel_gradient(a: &[Lanes], d: &[Lanes], layer: &Layer, count: usize, kernel: &mut [f32]) {
    let runs = Depth {
        segments: 1,
        length: count,
    };
    for c in 0..layer.input_parts() {
        let left = Left {
            data: a[c * TILE..][..TILE].as_flattened(),
            row: 1,
            step: PANEL,
            segment: 0,
        };
        for o in 0..layer.output_parts() {
            let right = Right {
                data: d[o * TILE..][..TILE].as_flattened(),
                step: PANEL,
                segment: 0,
            };
            let out = &mut kernel[(c * layer.outputs + o) * PANEL..];
            multiply(left, right, runs, PANEL, out, layer.outputs, true);
        }
    }
}

#[inline(always)]
fn add(y: &mut [Lanes], skip: &[Lanes]) {
    for (y, skip) in y.iter_mut().zip(skip) {
        for c in 0..PANEL {
            y[c] += skip[c];
        }
    }
}
