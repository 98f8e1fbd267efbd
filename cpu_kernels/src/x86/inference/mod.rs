//! All layers of a network with moving statistics: each image goes through them on its own, and what a layer gives stays
//! in the cache until the next one reads it.

use std::marker::PhantomData;
mod step;

use std::mem;
use std::sync::{Mutex, PoisonError};

use kernel_contract::plan::Added;
use rayon::prelude::*;

use super::format::{Format, Lanes};
use super::gemm::PANEL;
use super::layer::Layer;
use super::norm::Norm;
use super::padded::Padded;
use super::pointwise::TILE;
use super::sets;
use crate::isa::Isa;
use step::{Conv3x3, Pointwise, Share, Skip};

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

/// The images `x` `[N, H, W, C]` taken through all `steps`, at least one, to `y` `[N, h, w, O]`.
///
/// # Panics
/// When there are no kernels for `isa` on this processor, or the steps do not fit together as
/// [`kernel_contract::plan::Inference`] has them.
pub fn forward<F: Format>(isa: Isa, steps: &[Step], x: &[F::Lanes], y: &mut [F::Lanes]) {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return;
    };
    let network = Network::<F>::new(steps);
    // Those of the threads that wait for an image. There are never more of them than threads.
    let idle = Mutex::new(Vec::new());
    let take = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let give = |scratch| {
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(scratch);
    };
    let images = x.par_chunks_exact(first.layer.input_len());
    let results = y.par_chunks_exact_mut(last.layer.result_len());
    images.zip(results).for_each(|(x, y)| {
        let mut scratch = take().unwrap_or_else(|| Scratch::new(&network));
        network.image(isa, &mut scratch, x, y);
        give(scratch);
    });
}

/// What is the same for all images.
struct Network<'a, F: Format> {
    steps: &'a [Step<'a>],
    /// The kernel of each step, packed.
    kernels: Vec<Vec<f32>>,
    /// The buffer of each value. The first value and the last have none: they are the image and the result.
    buffers: Vec<usize>,
    /// The sizes of the images with a border that 3x3 layers read.
    padded: Vec<[usize; 3]>,
    format: PhantomData<F>,
}

/// What a thread computes an image in.
struct Scratch<F: Format> {
    /// As [`Network::buffers`] counts them.
    buffers: Vec<Vec<F::Lanes>>,
    /// One for each of [`Network::padded`].
    padded: Vec<Padded<F>>,
    /// The activations of a tile, in panels.
    tile: Vec<F::Lanes>,
    /// A convolution's output, of a tile or of an image.
    output: Vec<Lanes>,
    /// The same behind pooling, and which pixels it took.
    pooled: Vec<Lanes>,
    chosen: Vec<F::Lanes>,
}

impl<'a, F: Format> Network<'a, F> {
    fn new(steps: &'a [Step]) -> Self {
        let pack = |step: &Step| {
            let Layer {
                side,
                inputs,
                outputs,
                ..
            } = step.layer;
            F::pack(step.kernel, side * side * inputs, outputs)
        };
        let mut padded: Vec<_> = steps.iter().filter_map(border).collect();
        padded.sort_unstable();
        padded.dedup();
        Self {
            steps,
            kernels: steps.par_iter().map(pack).collect(),
            buffers: buffers(steps),
            padded,
            format: PhantomData,
        }
    }

    /// Takes image `x` through all steps to `y`.
    fn image(&self, isa: Isa, scratch: &mut Scratch<F>, x: &[F::Lanes], y: &mut [F::Lanes]) {
        let last = self.steps.len() - 1;
        for (index, step) in self.steps.iter().enumerate() {
            if index == last {
                self.step(isa, index, scratch, x, y);
                continue;
            }
            let buffer = self.buffers[index + 1];
            let mut own = mem::take(&mut scratch.buffers[buffer]);
            let len = step.layer.result_len();
            self.step(isa, index, scratch, x, &mut own[..len]);
            scratch.buffers[buffer] = own;
        }
    }

    /// Step number `index` of image `x`, whose value goes to `y`.
    fn step(
        &self,
        isa: Isa,
        index: usize,
        scratch: &mut Scratch<F>,
        x: &[F::Lanes],
        y: &mut [F::Lanes],
    ) {
        let step = &self.steps[index];
        let Scratch {
            buffers,
            padded,
            tile,
            output,
            pooled,
            chosen,
        } = scratch;
        let value = |number: usize| match number {
            0 => x,
            _ => &buffers[self.buffers[number]][..],
        };
        let share = Share {
            step,
            kernel: &self.kernels[index],
            x: value(step.input),
            added: step
                .added
                .map(|added| Skip::new(self.steps, added, value(added.value))),
            y,
        };
        let place = border(step).and_then(|size| self.padded.binary_search(&size).ok());
        match place {
            None => sets::run(
                isa,
                Pointwise {
                    share,
                    tile,
                    output,
                },
            ),
            Some(place) => {
                let padded = &mut padded[place];
                sets::run(
                    isa,
                    Conv3x3 {
                        share,
                        padded,
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
    fn new(network: &Network<F>) -> Self {
        let layers = || network.steps.iter().map(|step| &step.layer);
        let most = |len: fn(&Layer) -> usize| layers().map(len).max().unwrap_or(0);
        let pooled = layers()
            .filter(|layer| layer.pools)
            .map(Layer::result_len)
            .max();
        let pooled = pooled.unwrap_or(0);
        let buffers = network.buffers.iter().max().map_or(0, |most| most + 1);
        let value = most(Layer::result_len);
        let zeros = |len| vec![[0.0; PANEL]; len];
        Self {
            buffers: vec![vec![F::ZERO; value]; buffers],
            padded: network
                .padded
                .iter()
                .map(|&[height, width, parts]| Padded::new([height, width], parts, 1))
                .collect(),
            tile: vec![F::ZERO; TILE * most(Layer::input_parts)],
            output: zeros(most(|layer| match layer.side {
                1 => TILE * layer.output_parts(),
                _ => layer.output_len(),
            })),
            pooled: zeros(pooled),
            chosen: vec![F::ZERO; pooled],
        }
    }
}

/// The height, the width and the channels in lanes of the image with a border that `step` reads, if it does.
fn border(step: &Step) -> Option<[usize; 3]> {
    let layer = &step.layer;
    (layer.side > 1).then(|| [layer.height, layer.width, layer.input_parts()])
}

/// A buffer for each value. Values share one where the first is not read any more when the second is written.
fn buffers(steps: &[Step]) -> Vec<usize> {
    let read = |step: &Step| [Some(step.input), step.added.map(|added| added.value)];
    let mut last_use = vec![0; steps.len() + 1];
    for (index, step) in steps.iter().enumerate() {
        for value in read(step).into_iter().flatten() {
            last_use[value] = index;
        }
    }
    let mut of_values = vec![0];
    let (mut free, mut count) = (Vec::new(), 0);
    for index in 0..steps.len().saturating_sub(1) {
        of_values.push(free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        }));
        // The images, value 0, have no buffer.
        let ends = (1..=index).filter(|&value| last_use[value] == index);
        free.extend(ends.map(|value| of_values[value]));
    }
    of_values
}
