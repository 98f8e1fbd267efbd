//! What becomes of a forward product: it is rounded, stored, and its moments are summed.

use super::format::{Format, Lanes, get, put, registers};
use super::gemm::PANEL;
use super::norm::{Moments, Sums};
use super::parts::{self, OfParts};
use super::sets::Set;

/// The moments of a task's results.
pub struct Results {
    sums: Sums,
    /// The first pixel: sums are taken of what differs from it.
    pivot: Vec<Lanes>,
    /// Parts of the pivot that are known.
    known: usize,
    pixels: usize,
}

/// Results `y` = `product` + `skip` of some pixels.
pub struct Stored<'a, F: Format> {
    /// Some channels of each pixel.
    pub product: &'a [Lanes],
    /// Lanes in `product` from a pixel to the next.
    pub row: usize,
    /// `[pixels, O]`.
    pub skip: Option<&'a [F::Lanes]>,
    /// `[pixels, O]`.
    pub y: &'a mut [F::Lanes],
}

impl Results {
    /// Nothing yet, for `parts` times 16 channels.
    pub fn new(parts: usize) -> Self {
        Self {
            sums: Sums::new(parts),
            pivot: vec![[0.0; PANEL]; parts],
            known: 0,
            pixels: 0,
        }
    }

    /// `y` = `product` + `skip`, `[pixels, O]` each, one pixel at least: an image's.
    #[inline(always)]
    pub fn store<S: Set, F: Format>(
        &mut self,
        set: S,
        product: &[Lanes],
        skip: Option<&[F::Lanes]>,
        y: &mut [F::Lanes],
    ) {
        let parts = self.pivot.len();
        let mut all = All::<F> {
            results: self,
            product,
            skip,
            y,
        };
        parts::in_order(set, parts, &mut all);
        self.finish(product.len() / parts);
    }

    /// Stores the channels of `P` parts, the first of which is `part`. The caller goes through all parts in order, for a
    /// few hundred pixels, and then calls [`Self::finish`].
    #[inline(always)]
    pub fn store_parts<S: Set, F: Format, const P: usize>(
        &mut self,
        set: S,
        part: usize,
        stored: Stored<F>,
    ) {
        let parts = self.pivot.len();
        let Stored {
            product,
            row,
            skip,
            y,
        } = stored;
        if self.known == part {
            for q in 0..P {
                for n in 0..registers::<S>() {
                    let skip = skip.map(|skip| &skip[part + q]);
                    let value = store_one::<S, F>(set, n, &product[q], skip, &mut y[part + q]);
                    put(set, &mut self.pivot[part + q], n, value);
                }
            }
            self.known += P;
        }
        for n in 0..registers::<S>() {
            let mut sums = [self.sums.at(set, part, n); P];
            let mut pivots = [set.zero(); P];
            for q in 0..P {
                sums[q] = self.sums.at(set, part + q, n);
                pivots[q] = get(set, &self.pivot[part + q], n);
            }
            for (pixel, y) in y.chunks_exact_mut(parts).enumerate() {
                let (product, y) = (&product[pixel * row..][..P], &mut y[part..][..P]);
                let skip = skip.map(|skip| &skip[pixel * parts + part..][..P]);
                for q in 0..P {
                    let skip = skip.map(|skip| &skip[q]);
                    let value = store_one::<S, F>(set, n, &product[q], skip, &mut y[q]);
                    sums[q].add_moments(set, value, pivots[q]);
                }
            }
            for (q, sums) in sums.into_iter().enumerate() {
                self.sums.put(set, part + q, n, sums);
            }
        }
    }

    /// All channels of `pixels` more pixels are stored.
    #[inline(always)]
    pub fn finish(&mut self, pixels: usize) {
        self.pixels += pixels;
        self.sums.flush();
    }

    /// The moments of all that was stored.
    pub fn moments(self) -> Moments {
        Moments::new(self.sums, &self.pivot, self.pixels)
    }
}

/// All channels of some pixels, `[pixels, O]`.
struct All<'a, F: Format> {
    results: &'a mut Results,
    product: &'a [Lanes],
    skip: Option<&'a [F::Lanes]>,
    y: &'a mut [F::Lanes],
}

impl<F: Format> OfParts for All<'_, F> {
    #[inline(always)]
    fn run<S: Set, const P: usize>(&mut self, set: S, part: usize) {
        let stored = Stored::<F> {
            product: &self.product[part..],
            row: self.results.pivot.len(),
            skip: self.skip,
            y: self.y,
        };
        self.results.store_parts::<S, F, P>(set, part, stored);
    }
}

/// Register `n` of `y` = `product` + `skip`, as it was rounded: that is what the next layer normalises.
#[inline(always)]
pub fn store_one<S: Set, F: Format>(
    set: S,
    n: usize,
    product: &Lanes,
    skip: Option<&F::Lanes>,
    y: &mut F::Lanes,
) -> S::Register {
    let mut value = get(set, product, n);
    if let Some(skip) = skip {
        value = set.add(value, F::get(set, skip, n));
    }
    F::put(set, y, n, value);
    F::get(set, y, n)
}
