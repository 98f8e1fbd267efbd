//! All layers of a network with moving statistics: each image goes through them on its own, and what a layer gives stays
//! in the cache until the next one reads it.

mod stem;
mod step;

use std::mem;
use std::sync::{Mutex, PoisonError};

use kernel_contract::plan::Added;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::format::{Format, Lanes};
use super::layer::Layer;
use super::norm::Norm;
use super::pointwise::tile::TILE;
use super::{sets, winograd};
use crate::isa::Isa;
use stem::Convolution;
use step::{Bordered, Conv3x3, Pointwise, Share, Skip, Sum};

pub use stem::Stem;

/// A layer with its weights: conv(relu(norm(input))) + added, or that pooled.
pub struct Step<'a> {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: &'a [f32],
    /// The number of the value that it reads. The images are 0, and each step gives the next one.
    pub input: usize,
    pub added: Option<Added>,
}

/// What a network takes.
pub enum Input<'a, F: Format> {
    /// Value number 0, `[N, H, W, C]`.
    Value(&'a [F::Lanes]),
    /// Images `[N, H, W, channels]`, of which the stem makes it.
    Images(&'a [f32], Stem),
}

/// `input` taken through all `steps`, at least one, to `y` `[N, h, w, O]`.
///
/// # Panics
/// When there are no kernels for `isa` on this processor, or the steps do not fit together as
/// [`kernel_contract::plan::Inference`] has them.
pub fn forward<F: Format>(isa: Isa, input: &Input<F>, steps: &[Step], y: &mut [F::Lanes]) {
    let Some(last) = steps.last() else {
        return;
    };
    let network = Network::new(isa, input, steps);
    // Those of the threads that wait for an image. There are never more of them than threads.
    let idle = Mutex::new(Vec::new());
    let take = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let give = |scratch| {
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(scratch);
    };
    let results = y.par_chunks_exact_mut(last.layer.result_len());
    results.enumerate().for_each(|(image, y)| {
        let mut scratch = take().unwrap_or_else(|| Scratch::new(isa, &network));
        network.image(isa, &mut scratch, image, y);
        give(scratch);
    });
}

/// What is the same for all images.
struct Network<'a, F: Format> {
    input: &'a Input<'a, F>,
    steps: &'a [Step<'a>],
    /// The kernel of each step, [packed](winograd::packed).
    kernels: Vec<Aligned<f32>>,
    /// The buffer of each value but the last, which is the result. Without a stem, the first is not in its buffer.
    buffers: Vec<usize>,
    /// The 3x3 layers, one of those that are alike.
    bordered: Vec<Layer>,
}

/// What a thread computes an image in.
struct Scratch<F: Format> {
    /// Empty without a stem.
    stem: stem::Scratch,
    /// As [`Network::buffers`] counts them.
    buffers: Vec<Aligned<F::Lanes>>,
    /// One for each of [`Network::bordered`].
    bordered: Vec<Bordered<F>>,
    /// The activations of a tile, in panels.
    tile: Aligned<F::Lanes>,
    /// A convolution's output, of a tile or of an image.
    output: Aligned<Lanes>,
    /// The same behind pooling, and which pixels it took.
    pooled: Aligned<Lanes>,
    chosen: Aligned<F::Lanes>,
}

impl<'a, F: Format> Network<'a, F> {
    fn new(isa: Isa, input: &'a Input<'a, F>, steps: &'a [Step]) -> Self {
        let pack = |step: &Step| {
            let tile = winograd::tile_of_an_image::<F>(isa, &step.layer);
            winograd::packed::<F>(isa, &step.layer, step.kernel, tile)
        };
        let mut bordered = Vec::new();
        for layer in steps.iter().map(|step| step.layer) {
            if layer.side > 1 && !bordered.contains(&layer) {
                bordered.push(layer);
            }
        }
        Self {
            input,
            steps,
            kernels: steps.par_iter().map(pack).collect(),
            buffers: buffers(steps),
            bordered,
        }
    }

    /// Takes image number `image` through all steps to `y`.
    fn image(&self, isa: Isa, scratch: &mut Scratch<F>, image: usize, y: &mut [F::Lanes]) {
        if let Input::Images(images, stem) = self.input {
            let Scratch {
                buffers,
                stem: of_stem,
                ..
            } = scratch;
            let y = &mut buffers[self.buffers[0]][..stem.result_len()];
            let x = stem.image(images, image);
            sets::run::<F, _>(
                isa,
                Convolution::<F> {
                    stem,
                    scratch: of_stem,
                    x,
                    y,
                },
            );
        }
        let last = self.steps.len() - 1;
        for (index, step) in self.steps.iter().enumerate() {
            if index == last {
                self.step(isa, index, scratch, image, y);
                continue;
            }
            let buffer = self.buffers[index + 1];
            let mut own = mem::replace(&mut scratch.buffers[buffer], Aligned::zeros(0));
            let len = step.layer.result_len();
            self.step(isa, index, scratch, image, &mut own[..len]);
            scratch.buffers[buffer] = own;
        }
    }

    /// Whether the values of these numbers lie in the same place.
    fn share_a_buffer(&self, one: usize, other: usize) -> bool {
        self.buffers.get(one) == self.buffers.get(other)
    }

    /// Step number `index` of image number `image`, whose value goes to `y`.
    fn step(
        &self,
        isa: Isa,
        index: usize,
        scratch: &mut Scratch<F>,
        image: usize,
        y: &mut [F::Lanes],
    ) {
        let step = &self.steps[index];
        let Scratch {
            buffers,
            bordered,
            tile,
            output,
            pooled,
            chosen,
            ..
        } = scratch;
        let first = self.steps[0].layer.input_len();
        let value = |number: usize| match (number, self.input) {
            (0, Input::Value(x)) => &x[image * first..][..first],
            _ => &buffers[self.buffers[number]][..],
        };
        let share = Share {
            step,
            kernel: &self.kernels[index],
            x: value(step.input),
            sum: match step.added {
                None => Sum::Nothing,
                Some(added) if self.share_a_buffer(added.value, index + 1) => Sum::InPlace,
                Some(added) => Sum::Skip(Skip::new(self.steps, added, value(added.value))),
            },
            y,
        };
        let alike = |layer: &Layer| *layer == step.layer;
        match self.bordered.iter().position(alike) {
            None => sets::run::<F, _>(
                isa,
                Pointwise {
                    share,
                    tile,
                    output,
                },
            ),
            Some(place) => {
                let bordered = &mut bordered[place];
                sets::run::<F, _>(
                    isa,
                    Conv3x3 {
                        share,
                        bordered,
                        output,
                        pooled,
                        chosen,
                    },
                );
            }
        }
    }
}

impl<F: Format> Scratch<F> {
    fn new(isa: Isa, network: &Network<F>) -> Self {
        let of_layers = network.bordered.iter();
        let layers = || network.steps.iter().map(|step| &step.layer);
        let most = |len: fn(&Layer) -> usize| layers().map(len).max().unwrap_or(0);
        let pooled = layers()
            .filter(|layer| layer.pools)
            .map(Layer::result_len)
            .max();
        let pooled = pooled.unwrap_or(0);
        let buffers = network.buffers.iter().max().map_or(0, |most| most + 1);
        let first = layers().next().map_or(0, Layer::input_len);
        let value = most(Layer::result_len).max(first);
        Self {
            stem: match network.input {
                Input::Images(_, stem) => stem.scratch(),
                Input::Value(_) => stem::Scratch::default(),
            },
            buffers: (0..buffers).map(|_| Aligned::zeros(value)).collect(),
            bordered: of_layers.map(|layer| Bordered::new(isa, layer)).collect(),
            tile: Aligned::zeros(TILE * most(Layer::input_parts)),
            output: Aligned::zeros(most(|layer| match layer.side {
                1 => TILE * layer.output_parts(),
                _ => layer.output_len(),
            })),
            pooled: Aligned::zeros(pooled),
            chosen: Aligned::zeros(pooled),
        }
    }
}

/// A buffer for each value. Values share one where the first is not read any more when the second is written, or where
/// the second is the first with a product added to it.
fn buffers(steps: &[Step]) -> Vec<usize> {
    let read = |step: &Step| [Some(step.input), step.added.map(|added| added.value)];
    let mut last_use = vec![0; steps.len() + 1];
    for (index, step) in steps.iter().enumerate() {
        for value in read(step).into_iter().flatten() {
            last_use[value] = index;
        }
    }
    let mut of_values = Vec::new();
    let (mut free, mut count) = (Vec::new(), 0);
    for value in 0..steps.len() {
        let buffer = match replaced(steps, &last_use, value) {
            Some(added) => of_values[added],
            None => free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            }),
        };
        of_values.push(buffer);
        // Those that the step that gives it was the last to read, but for one in whose place it is.
        let ends = (0..value).filter(|&read| last_use[read] == value - 1);
        free.extend(
            ends.map(|read| of_values[read])
                .filter(|&end| end != buffer),
        );
    }
    of_values
}

/// The number of the value in whose place `value` comes, if there is one: a 1x1 layer adds its product to a value of the
/// same sizes that is not read again. The images themselves are in no buffer.
fn replaced(steps: &[Step], last_use: &[usize], value: usize) -> Option<usize> {
    let index = value.checked_sub(1)?;
    let Step {
        layer,
        input,
        added,
        ..
    } = &steps[index];
    let added = added.filter(|added| added.value != *input && added.stride == 1)?;
    let before = &steps[added.value.checked_sub(1)?].layer;
    let fits = layer.side == 1 && before.outputs == layer.outputs;
    (fits && last_use[added.value] == index).then_some(added.value)
}
