//! Images with a border, and the products of a 3x3 convolution with them.

use std::ops::Range;

use super::aligned::Aligned;
use super::format::{Format, Lanes, registers};
use super::gemm::{Depth, Left, PANEL, Product, Right};
use super::norm::{Norm, NormGradient};
use super::prefetch::Ahead;
use super::sets::Set;
use super::tiles::{Lines, OnTiles, Places, tiles_for};
use super::walk::{TAPS, Walk};

/// An image with a border of zeros one pixel wide, at the right and at the bottom wider where that fills the last tile or
/// the last pair: `[rows, row, C]`.
pub struct Padded<F: Format> {
    values: Aligned<F::Lanes>,
    height: usize,
    width: usize,
    parts: usize,
    /// Lanes of a row.
    row: usize,
    /// Of the pixels that [`kernel_gradient`] multiplies.
    stride: usize,
    /// The same as elements along these pixels, for each of the first taps, where the format's elements are pairs. Empty
    /// until [`kernel_gradient`] needs them.
    pairs: [Vec<Lanes>; TAPS],
}

/// Pixels along a side of the largest tile.
const TILE: usize = 4;

impl<F: Format> Padded<F> {
    /// For images of `height` and `width` with `parts` times 16 channels. [`kernel_gradient`] multiplies pixels `stride`
    /// apart.
    pub fn new([height, width]: [usize; 2], parts: usize, stride: usize) -> Self {
        let [rows, row] = [height, width].map(|size| size.next_multiple_of(TILE) + 2);
        let row = (row + stride - 1).next_multiple_of(2 * stride) * parts;
        Self {
            values: Aligned::zeros(rows * row),
            height,
            width,
            parts,
            row,
            stride,
            pairs: Default::default(),
        }
    }

    /// Makes room for the pairs of the first `taps` taps, where the format's elements are pairs.
    fn make_room(&mut self, taps: usize) {
        if F::VALUES > 1 {
            let len = self.values.len() / (F::VALUES * self.stride);
            for pairs in &mut self.pairs[..taps] {
                pairs.resize(len, [0.0; PANEL]);
            }
        }
    }

    /// Sets each register of the image: of index, channels and number. The border stays zeros. Each caller needs a closure
    /// of its own: one that two share is not inlined.
    #[inline(always)]
    pub fn fill<S: Set>(&mut self, set: S, value: impl Fn(usize, usize, usize) -> S::Register) {
        let (row, parts, width) = (self.row, self.parts, self.width);
        for i in 0..self.height {
            let first = (i + 1) * row + parts;
            let pixels = self.values[first..].chunks_exact_mut(parts).take(width);
            for (j, pixel) in pixels.enumerate() {
                for (part, lanes) in pixel.iter_mut().enumerate() {
                    for n in 0..registers::<S>() {
                        let index = (i * width + j) * parts + part;
                        F::put(set, lanes, n, value(index, part, n));
                    }
                }
            }
        }
    }

    /// Sets the image to the activations of `x`, some channels of a few rows after the others.
    #[inline(always)]
    pub fn activate<S: Set>(&mut self, set: S, norm: &Norm, x: &[F::Lanes]) {
        let (row, parts, width) = (self.row, self.parts, self.width);
        let at_a_time = rows_at_a_time(width);
        for first in (0..self.height).step_by(at_a_time) {
            let rows = first..self.height.min(first + at_a_time);
            for part in 0..parts {
                for n in 0..registers::<S>() {
                    let norm = norm.of_register(set, part, n);
                    for i in rows.clone() {
                        let pixels = &mut self.values[(i + 1) * row + parts..][..width * parts];
                        let x = &x[i * width * parts..][..width * parts];
                        let pixels = pixels.chunks_exact_mut(parts).zip(x.chunks_exact(parts));
                        for (pixel, x) in pixels {
                            let a = norm.activate(set, F::get(set, &x[part], n));
                            F::put(set, &mut pixel[part], n, a);
                        }
                    }
                }
            }
        }
    }

    /// Sets the image to the gradient in front of the normalisation of `x`, from `dz`, the one behind it: as
    /// [`Self::activate`] does.
    #[inline(always)]
    pub fn gradient_of_norm<S: Set>(
        &mut self,
        set: S,
        norm: &NormGradient,
        dz: &[F::Lanes],
        x: &[F::Lanes],
    ) {
        let (row, parts, width) = (self.row, self.parts, self.width);
        let at_a_time = rows_at_a_time(width);
        for first in (0..self.height).step_by(at_a_time) {
            let rows = first..self.height.min(first + at_a_time);
            for part in 0..parts {
                for n in 0..registers::<S>() {
                    let norm = norm.of_register(set, part, n);
                    for i in rows.clone() {
                        let pixels = &mut self.values[(i + 1) * row + parts..][..width * parts];
                        let [dz, x] = [dz, x].map(|all| &all[i * width * parts..][..width * parts]);
                        let behind = dz.chunks_exact(parts).zip(x.chunks_exact(parts));
                        for (pixel, (dz, x)) in pixels.chunks_exact_mut(parts).zip(behind) {
                            let (dz, x) = (F::get(set, &dz[part], n), F::get(set, &x[part], n));
                            F::put(set, &mut pixel[part], n, norm.apply(set, dz, x));
                        }
                    }
                }
            }
        }
    }

    /// Pixels with the border.
    pub fn pixels(&self) -> usize {
        self.values.len() / self.parts
    }

    /// Height and width of the image without border.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Row `i` of the image without border, `[width, C]`.
    #[inline(always)]
    pub fn pixels_of_row(&self, i: usize) -> &[F::Lanes] {
        &self.values[(i + 1) * self.row + self.parts..][..self.width * self.parts]
    }

    /// The lanes from a pixel on, its row and column counted with the border.
    #[inline(always)]
    pub fn lanes_from(&self, row: usize, column: usize) -> &[F::Lanes] {
        &self.values[row * self.row + column * self.parts..]
    }

    /// The same as elements of the format along the channels.
    fn elements(&self, row: usize, column: usize) -> &[f32] {
        F::elements(self.lanes_from(row, column))
    }

    /// Lanes from a row to the next, and from a pixel to the next.
    #[inline(always)]
    pub fn steps(&self) -> [usize; 2] {
        [self.row, self.parts]
    }
}

/// Multiplications of a value of an image with a panel of a kernel from `inputs` to `outputs`, by which [`convolve`]
/// [counts](Ahead::pass).
pub fn work<F: Format>(walks: [Walk; 2], [inputs, outputs]: [usize; 2]) -> usize {
    let along = walks.map(|walk| walk.stops * walk.taps);
    along[0] * along[1] * (inputs / F::VALUES) * (outputs / PANEL)
}

/// The results `y` `[n, _, width, O]` of the stops along `rows` and `columns`: the `images` convolved with `kernel`
/// (packed), which has the taps of both.
#[inline(always)]
pub fn convolve<S: Set, F: Format>(
    set: S,
    images: &[Padded<F>],
    walks: [Walk; 2],
    width: usize,
    kernel: &[f32],
    y: &mut [Lanes],
    ahead: &mut Ahead,
) {
    let [rows, columns] = walks;
    if columns.stops == 0 || rows.stops == 0 {
        return;
    }
    let convolution = Convolution {
        walks,
        kernel,
        depth: Depth {
            segments: rows.taps,
            length: columns.taps * images[0].parts * F::ELEMENTS,
        },
        width,
    };
    let len = y.len() / images.len();
    let panels = convolution.panels();
    let at_a_time = convolution.panels_at_a_time::<S, F>(set);
    for first in (0..panels).step_by(at_a_time) {
        let some = first..panels.min(first + at_a_time);
        for (image, y) in images.iter().zip(y.chunks_exact_mut(len)) {
            let y = y.as_flattened_mut();
            match tiles_for::<S, F>(set) {
                Some(tiles) if columns.stride == 1 && rows.stride == 1 => {
                    convolution.image_on_tiles(set, tiles, image, some.clone(), y, ahead);
                }
                _ => {
                    for row in 0..rows.stops {
                        ahead.pass(columns.stops * some.len() * convolution.depth.terms());
                        convolution.row(set, image, row, some.clone(), y);
                    }
                }
            }
        }
    }
}

/// A convolution of [`convolve`].
struct Convolution<'a> {
    walks: [Walk; 2],
    kernel: &'a [f32],
    depth: Depth,
    width: usize,
}

impl Convolution<'_> {
    fn panels(&self) -> usize {
        self.kernel.len() / (self.depth.terms() * PANEL)
    }

    /// Panels of the kernel that all images are multiplied with before others: on tiles, what a part of a second level
    /// cache holds.
    #[inline(always)]
    fn panels_at_a_time<S: Set, F: Format>(&self, set: S) -> usize {
        const CACHED: usize = 512 << 10;
        match tiles_for::<S, F>(set) {
            Some(_) => (CACHED / (self.depth.terms() * PANEL * size_of::<f32>())).max(S::PANELS),
            None => S::PANELS,
        }
    }

    /// The kernel's panels from `first` on.
    fn right(&self, first: usize) -> Right<'_> {
        Right {
            data: &self.kernel[first * self.depth.terms() * PANEL..],
            step: PANEL,
            segment: self.depth.length * PANEL,
            panel: self.depth.terms() * PANEL,
        }
    }

    /// Some `panels` of a row of results of `image`.
    #[inline(always)]
    fn row<S: Set, F: Format>(
        &self,
        set: S,
        image: &Padded<F>,
        row: usize,
        panels: Range<usize>,
        y: &mut [f32],
    ) {
        let [rows, columns] = self.walks;
        let product = Product {
            left: Left {
                data: image.elements(rows.from + row * rows.stride, columns.from),
                row: columns.stride * image.parts * F::ELEMENTS,
                step: 1,
                segment: image.row * F::ELEMENTS,
            },
            right: self.right(panels.start),
            depth: self.depth,
            rows: columns.stops,
            panels: panels.len(),
        };
        let pixel = (rows.to + row * rows.step) * self.width + columns.to;
        let out = &mut y[(pixel * self.panels() + panels.start) * PANEL..];
        product.compute::<S, F>(set, out, columns.step * self.panels() * PANEL, false);
    }

    /// Some `panels` of all results of `image`: a single product, whose rows go on over the borders between the image's
    /// rows.
    #[inline(always)]
    fn image_on_tiles<S: Set, F: Format>(
        &self,
        set: S,
        tiles: S::Tiles,
        image: &Padded<F>,
        panels: Range<usize>,
        y: &mut [f32],
        ahead: &mut Ahead,
    ) {
        let [rows, columns] = self.walks;
        let line = image.row / image.parts;
        let product = Product {
            left: Left {
                data: image.elements(rows.from, columns.from),
                row: image.parts * F::ELEMENTS,
                step: 1,
                segment: image.row * F::ELEMENTS,
            },
            right: self.right(panels.start),
            depth: self.depth,
            rows: (rows.stops - 1) * line + columns.stops,
            panels: panels.len(),
        };
        let pixel = self.panels() * PANEL;
        let first = (rows.to * self.width + columns.to) * pixel + panels.start * PANEL;
        set.run(OnTiles {
            product: &product,
            tiles,
            out: &mut y[first..],
            places: Places {
                step: columns.step * pixel,
                lines: Some(Lines {
                    rows: line,
                    width: columns.stops,
                    step: rows.step * self.width * pixel,
                }),
            },
            add: false,
            ahead: Some(ahead),
        });
    }
}

/// Adds `dkernel[a, b, c, o] = Σ x[i, j, c] · d[p, q, o]` over the stops p and q of tap a along `rows` and tap b along
/// `columns`, at which the pixels i, j of `x` with its border lie under the taps.
#[inline(always)]
pub fn kernel_gradient<S: Set, F: Format>(
    set: S,
    x: &mut Padded<F>,
    d: &mut Padded<F>,
    [rows, columns]: [Walk; 2],
    kernel: &mut [f32],
) {
    let (inputs, outputs) = (x.parts * PANEL, d.parts * PANEL);
    let stride = x.stride;
    // Pairs lie side by side; single pixels stay where they are.
    let step = if F::VALUES > 1 { 1 } else { stride };
    let x_row = x.row / (F::VALUES * stride) * step;
    let d_row = d.row / F::VALUES;
    // Tap b begins where tap b − `different` takes its second step.
    let different = TAPS.min(F::VALUES * stride);
    x.make_room(different);
    d.make_room(1);
    let mut left: [&[f32]; TAPS] = [&[]; TAPS];
    let places = left.iter_mut().zip(&mut x.pairs).take(different);
    for (tap, (left, pairs)) in places.enumerate() {
        let pixels = &x.values[(columns.from + tap) * x.parts..];
        *left = F::along_pixels(set, pixels, x.parts, stride, pairs);
    }
    let right = F::along_pixels(set, &d.values[d.parts..], d.parts, 1, &mut d.pairs[0]);
    let at_a_time = rows_at_a_time(x.width);
    for i in (0..rows.stops).step_by(at_a_time) {
        for (tap, kernel) in kernel.chunks_exact_mut(inputs * outputs).enumerate() {
            let (a, b) = (tap / TAPS, tap % TAPS);
            let row = rows.from + i * rows.stride + a;
            let first = row * x_row + b / different * step * x.parts;
            let product = Product {
                left: Left {
                    data: &left[b % different][first * PANEL..],
                    row: 1,
                    step: step * inputs,
                    segment: rows.stride * x_row * PANEL,
                },
                right: Right {
                    data: &right[(i + 1) * d_row * PANEL..],
                    step: outputs,
                    segment: d_row * PANEL,
                    panel: PANEL,
                },
                depth: Depth {
                    segments: at_a_time.min(rows.stops - i),
                    length: columns.stops.div_ceil(F::VALUES),
                },
                rows: inputs,
                panels: d.parts,
            };
            product.compute::<S, F>(set, kernel, outputs, true);
        }
    }
}

/// Rows of results summed before a block of them goes back to memory: the pixels of as many rows of the input are what
/// a first level cache holds.
pub fn rows_at_a_time(width: usize) -> usize {
    const PIXELS: usize = 128;
    (PIXELS / width).max(1)
}
