//! A kernel's weights, transformed.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::super::aligned::Aligned;
use super::super::format::{F32, Format, Lanes};
use super::super::gemm::PANEL;
use super::super::layer::Layer;
use super::super::norm::lanes;
use super::super::sets::{self, Set, Task};
use super::super::walk::TAPS;
use super::transforms::{Transform, Weights};
use super::{LARGE, places, square_steps};
use crate::isa::Isa;

/// The `kernel` `[side, side, C, O]` of a layer as its products take it: [`transformed`] for tiles with so many results along a
/// side, or packed where it is computed directly.
pub fn packed<F: Format>(
    isa: Isa,
    layer: &Layer,
    kernel: &[f32],
    tile: Option<usize>,
) -> Aligned<f32> {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    match tile {
        Some(results) => transformed::<F>(isa, kernel, [inputs, outputs], results),
        None => F::pack(kernel, layer.side * layer.side * inputs, outputs),
    }
}

/// The places of a kernel `[3, 3, C, O]` for tiles with so many `results` along a side, as products over its channels C take
/// them: `[O / 16, places, C / VALUES, 16]` elements of the format `F`.
pub fn transformed<F: Format>(
    isa: Isa,
    kernel: &[f32],
    [inputs, outputs]: [usize; 2],
    results: usize,
) -> Aligned<f32> {
    let parts = outputs / PANEL;
    let len = places(results) * inputs / F::VALUES;
    let mut places = Aligned::zeros(len * parts * PANEL);
    let panels = places.as_chunks_mut().0.par_chunks_mut(len).enumerate();
    panels.for_each(|(panel, places)| {
        let task = TransformedPanel::<F> {
            kernel: &lanes(kernel)[panel..],
            inputs,
            parts,
            results,
            places,
            format: PhantomData,
        };
        sets::run::<F, _>(isa, task);
    });
    places
}

/// One panel of [`transformed`].
struct TransformedPanel<'a, F> {
    /// From the panel's first lanes on.
    kernel: &'a [Lanes],
    inputs: usize,
    parts: usize,
    results: usize,
    places: &'a mut [Lanes],
    format: PhantomData<F>,
}

impl<F: Format> Task for TransformedPanel<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        match self.results {
            LARGE => self.transform::<S, 6>(set),
            _ => self.transform::<S, 4>(set),
        }
    }
}

impl<F: Format> TransformedPanel<'_, F> {
    #[inline(always)]
    fn transform<S: Set, const SIDE: usize>(self, set: S)
    where
        Weights: Transform<TAPS, SIDE>,
    {
        let steps = square_steps(TAPS, self.inputs * self.parts);
        let to_steps = square_steps(SIDE, self.inputs / F::VALUES);
        for (element, c) in (0..self.inputs).step_by(F::VALUES).enumerate() {
            let (first, second) = (c * self.parts, (c + 1) * self.parts);
            let second = (F::VALUES > 1).then(|| &self.kernel[second..]);
            let (from, to) = (&self.kernel[first..], &mut self.places[element..]);
            Weights::elements::<S, F32, F>(set, from, second, steps, to, to_steps);
        }
    }
}
