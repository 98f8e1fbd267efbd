//! What becomes of a forward product: it is rounded, stored, and its moments are summed.

use super::format::{Format, Lanes, get, put, registers};
use super::gemm::PANEL;
use super::norm::{Moments, Sums};
use super::sets::Set;

/// The moments of a task's results.
pub struct Results {
    sums: Sums,
    /// The first pixel: sums are taken of what differs from it. Empty before it is known.
    pivot: Vec<Lanes>,
    pixels: usize,
}

impl Results {
    /// Nothing yet, for `parts` times 16 channels.
    pub fn new(parts: usize) -> Self {
        Self {
            sums: Sums::new(parts),
            pivot: vec![[0.0; PANEL]; parts],
            pixels: 0,
        }
    }

    /// `y` = `product` + `skip`, `[pixels, O]` each, one pixel at least: a tile's or an image's.
    #[inline(always)]
    pub fn store<S: Set, F: Format>(
        &mut self,
        set: S,
        product: &[Lanes],
        skip: Option<&[F::Lanes]>,
        y: &mut [F::Lanes],
    ) {
        let parts = self.pivot.len();
        if self.pixels == 0 {
            for part in 0..parts {
                for n in 0..registers::<S>() {
                    let skip = skip.map(|skip| &skip[part]);
                    let value = store_one::<S, F>(set, n, &product[part], skip, &mut y[part]);
                    put(set, &mut self.pivot[part], n, value);
                }
            }
        }
        let mut part = 0;
        while part < parts {
            match parts - part {
                4.. => {
                    self.store_parts::<S, F, 4>(set, part, product, skip, y);
                    part += 4;
                }
                2.. => {
                    self.store_parts::<S, F, 2>(set, part, product, skip, y);
                    part += 2;
                }
                _ => {
                    self.store_parts::<S, F, 1>(set, part, product, skip, y);
                    part += 1;
                }
            }
        }
        self.pixels += product.len() / parts;
        self.sums.flush();
    }

    /// [`Self::store`] of the channels of `P` parts, the first of which is `first`.
    #[inline(always)]
    fn store_parts<S: Set, F: Format, const P: usize>(
        &mut self,
        set: S,
        first: usize,
        product: &[Lanes],
        skip: Option<&[F::Lanes]>,
        y: &mut [F::Lanes],
    ) {
        let parts = self.pivot.len();
        for n in 0..registers::<S>() {
            let mut sums = [self.sums.at(set, first, n); P];
            let mut pivots = [set.zero(); P];
            for q in 0..P {
                sums[q] = self.sums.at(set, first + q, n);
                pivots[q] = get(set, &self.pivot[first + q], n);
            }
            let pixels = product.chunks_exact(parts).zip(y.chunks_exact_mut(parts));
            for (pixel, (product, y)) in pixels.enumerate() {
                let (product, y) = (&product[first..][..P], &mut y[first..][..P]);
                let skip = skip.map(|skip| &skip[pixel * parts + first..][..P]);
                for q in 0..P {
                    let skip = skip.map(|skip| &skip[q]);
                    let value = store_one::<S, F>(set, n, &product[q], skip, &mut y[q]);
                    sums[q].add_moments(set, value, pivots[q]);
                }
            }
            for (q, sums) in sums.into_iter().enumerate() {
                self.sums.put(set, first + q, n, sums);
            }
        }
    }

    /// The moments of all that was stored.
    pub fn moments(self) -> Moments {
        Moments::new(self.sums, &self.pivot, self.pixels)
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
