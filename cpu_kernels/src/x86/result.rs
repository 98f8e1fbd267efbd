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

    /// `y` = `product` + `skip`, `[pixels, O]` each: a tile's or an image's.
    #[inline(always)]
    pub fn store<S: Set, F: Format>(
        &mut self,
        set: S,
        product: &[Lanes],
        skip: Option<&[F::Lanes]>,
        y: &mut [F::Lanes],
    ) {
        let parts = self.pivot.len();
        for (pixel, product) in product.chunks_exact(parts).enumerate() {
            let here = pixel * parts..(pixel + 1) * parts;
            let y = &mut y[here.clone()];
            let skip = skip.map(|skip| &skip[here]);
            for part in 0..parts {
                for n in 0..registers::<S>() {
                    let mut value = get(set, &product[part], n);
                    if let Some(skip) = skip {
                        value = set.add(value, F::get(set, &skip[part], n));
                    }
                    F::put(set, &mut y[part], n, value);
                    // As it was rounded: that is what the next layer normalises.
                    let value = F::get(set, &y[part], n);
                    if self.pixels == 0 {
                        put(set, &mut self.pivot[part], n, value);
                    }
                    let pivot = get(set, &self.pivot[part], n);
                    self.sums.add_moments(set, part, n, value, pivot);
                }
            }
            self.pixels += 1;
        }
        self.sums.flush();
    }

    /// The moments of all that was stored.
    pub fn moments(self) -> Moments {
        Moments::new(self.sums, &self.pivot, self.pixels)
    }
}
