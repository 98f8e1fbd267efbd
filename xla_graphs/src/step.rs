//! The three computations of a run: train, evaluate, predict.
//!
//! ```text
//!  state ──┬──────────────────────────────────────────────┬─► update ─► finite? ─► next state
//!          ▼                                              │     ▲         ▲
//!  images ─► forward ─► logits ─► softmax, cross-entropy ─┼─► backward    │
//!  labels ──────────────────────► targets ────────────────┘               └── metrics
//! ```
//!
//! Every input and output is an array (no tuples inside): first the flat arrays of the state
//! ([`Layout::arrays`]), then the batch. Images and weights are always parameters, never constants.

use xla::{ElementType, XlaBuilder, XlaOp};

use crate::arrays::to_i64;
use crate::average;
use crate::error::Result;
use crate::model::Model;
use crate::ops::{batch_norm, kernels, loss};
use crate::optimiser::{Update, decayed};
use crate::table::{Array, Layout, NETWORK_ARRAYS};
use crate::tensors::{Place, Tensors};
use crate::trained::Trained;

/// Forward, backward and update of one batch.
///
/// Inputs: the state's arrays ([`Layout::arrays`]), images `[N, H, W, 3]` f32, labels `[N]` s32,
/// learning rate f32; where the optimiser needs it, the number of the step, from 1, f32; where the model
/// mixes labels, each image's second label `[N]` s32 and the share of its first `[N]` f32. Outputs: the next
/// state, its buffers shared with the input's (donated), and the metrics ([`crate::model::metrics`]) of this batch. With a
/// loss that is not finite the next state is the old one.
pub fn train_step(model: &Model) -> Result<Vec<u8>> {
    let layout = model.layout();
    let mut inputs = Inputs::new("train_step");
    let state = inputs.state(&layout, &layout.arrays())?;
    let images = inputs.array(ElementType::F32, &model.image_dims(), "images")?;
    let labels = inputs.array(ElementType::S32, &[model.batch], "labels")?;
    let learning_rate = inputs.array(ElementType::F32, &[], "learning_rate")?;
    let step_count = match model.optimiser.needs_step_count() {
        true => Some(inputs.array(ElementType::F32, &[], "step_count")?),
        false => None,
    };
    let mixed = match model.mixes_labels {
        true => Some(loss::Mixed {
            others: inputs.array(ElementType::S32, &[model.batch], "second_labels")?,
            shares: inputs.array(ElementType::F32, &[model.batch], "label_shares")?,
        }),
        false => None,
    };

    let statistics = model.batch_norm_replicas();
    let mut batch = Tensors::new();
    let (logits, saved) = model
        .network
        .forward(&state.tensors, &images, statistics, &mut batch)?;
    let loss = loss::forward(&logits, &labels, mixed.as_ref(), model.label_smoothing)?;
    let dlogits = loss::backward(&loss, model.global_batch())?;
    let mut gradients = Tensors::new();
    model
        .network
        .backward(&state.tensors, &saved, &dlogits, statistics, &mut gradients)?;

    let frozen = model.network.frozen_tensors();
    let trained = |array| Trained::of(&layout, array, &frozen);
    let trained = (trained(Array::Weights), trained(Array::Statistics));
    let statistics = match trained.1.tensors.is_empty() {
        true => trained.1.take(state.array(Array::Statistics))?,
        false => batch.join(&trained.1.tensors)?,
    };
    let shares = Shares {
        gradient: gradients.join(&trained.0.tensors)?,
        statistics,
        metrics: image_sums(&loss, &inputs.ones(model.batch)?)?,
    };
    let whole = shares.combine(model)?;
    let step = (&learning_rate, step_count.as_ref());
    let next = next_state(model, &state, &trained, &whole, step)?;
    let metrics = metrics_vector(model, &state, &whole.metrics)?;

    let finite = is_finite(&metrics)?;
    let mut outputs = Vec::with_capacity(next.len() + 1);
    for (index, (new, old)) in next.iter().zip(&state.arrays).enumerate() {
        outputs.push(keep_unless(&finite, new, old)?);
        inputs.builder.setup_alias(index as i64, index as i64);
    }
    outputs.push(metrics);
    inputs.build(&outputs)
}

/// Metrics and logits of one batch in inference mode.
///
/// Inputs: the network's arrays (the first [`NETWORK_ARRAYS`]), images `[N, H, W, 3]` f32, labels `[N]`
/// s32, weights `[N]` f32 (1 for an image that counts, 0 for padding). Outputs: the metrics
/// ([`crate::model::metrics`]), logits `[N, classes]` f32.
pub fn eval_step(model: &Model) -> Result<Vec<u8>> {
    let layout = model.layout();
    let mut inputs = Inputs::new("eval_step");
    let network = inputs.state(&layout, &layout.arrays()[..NETWORK_ARRAYS])?;
    let images = inputs.array(ElementType::F32, &model.image_dims(), "images")?;
    let labels = inputs.array(ElementType::S32, &[model.batch], "labels")?;
    let weights = inputs.array(ElementType::F32, &[model.batch], "weights")?;

    let logits = model.network.infer(&network.tensors, &images)?;
    let loss = loss::forward(&logits, &labels, None, 0.0)?;
    let sums = model.replicas.sum(&image_sums(&loss, &weights)?)?;
    let metrics = metrics_vector(model, &network, &sums)?;
    inputs.build(&[metrics, logits])
}

/// Logits `[N, classes]` of images `[N, H, W, 3]`; inputs: the network's arrays, then the images.
pub fn predict_step(model: &Model) -> Result<Vec<u8>> {
    let layout = model.layout();
    let mut inputs = Inputs::new("predict_step");
    let network = inputs.state(&layout, &layout.arrays()[..NETWORK_ARRAYS])?;
    let images = inputs.array(ElementType::F32, &model.image_dims(), "images")?;
    let logits = model.network.infer(&network.tensors, &images)?;
    inputs.build(&[logits])
}

/// What a replica's share of the batch comes to. Nothing of it is about frozen layers.
struct Shares {
    /// The gradient of all weights, without the penalty's.
    gradient: XlaOp,
    /// The batch's statistics.
    statistics: XlaOp,
    /// The first [`crate::model::metrics::PENALTY`] of the metrics.
    metrics: XlaOp,
}

impl Shares {
    /// The same of the whole batch, by one all-reduce: sums of gradients and metrics, and, where
    /// replicas did not share their batch statistics, the mean of those.
    fn combine(&self, model: &Model) -> Result<Self> {
        let (gradient, statistics, metrics);
        let has_no_statistics = self.statistics.dims()?[0] == 0;
        if model.sync_batch_norm || has_no_statistics {
            let shares = [&self.gradient, &self.metrics];
            [gradient, metrics] = model.replicas.sum_all(shares)?;
            statistics = self.statistics.clone();
        } else {
            let shares = [&self.gradient, &self.statistics, &self.metrics];
            let sum;
            [gradient, sum, metrics] = model.replicas.sum_all(shares)?;
            statistics = model.replicas.mean_of(&sum)?;
        }
        Ok(Self {
            gradient,
            statistics,
            metrics,
        })
    }
}

/// The next state in the order of [`Layout::arrays`]: one update of all weights with the gradient of
/// the `whole` batch and the penalty's, and one of all moving statistics. What is not `trained` (weights, statistics)
/// stays as it is, and so do its slots.
fn next_state(
    model: &Model,
    state: &State,
    (trained, moving): &(Trained, Trained),
    whole: &Shares,
    (learning_rate, step_count): (&XlaOp, Option<&XlaOp>),
) -> Result<Vec<XlaOp>> {
    let decaying = trained.decaying_len();
    let part = |index| match index == Array::Statistics.index() {
        true => moving,
        false => trained,
    };
    let arrays = state.arrays.iter().enumerate();
    let taken = arrays.map(|(index, array)| part(index).take(array));
    let taken = taken.collect::<Result<Vec<_>>>()?;
    let weights = &taken[Array::Weights.index()];
    let gradient = loss::l2_gradient(weights, &whole.gradient, decaying, model.l2)?;
    let slots = &taken[NETWORK_ARRAYS..];
    let (slots, average) = slots.split_at(model.optimiser.slots().len());
    let updated = model.optimiser.update(&Update {
        tensors: &trained.tensors,
        weights,
        slots,
        gradient: &gradient,
        learning_rate,
        step_count,
    })?;
    let statistics = &taken[Array::Statistics.index()];
    let statistics = batch_norm::moved(statistics, &whole.statistics, model.bn_momentum)?;
    let strength = model.weight_decay;
    let new = decayed(weights, updated.weights, decaying, learning_rate, strength)?;
    let mut next = vec![new.clone(), statistics];
    next.extend(updated.slots);
    if let (Some(kept), [average]) = (model.averaging, average) {
        next.push(average::moved(average, &new, kept)?);
    }
    let pairs = state.arrays.iter().zip(&next).enumerate();
    let whole = pairs.map(|(index, (old, new))| part(index).put(old, new));
    whole.collect()
}

/// The metrics in the order of [`crate::model::metrics`]: the sums over a batch's images, then the L2 penalty of the
/// weights in `state`.
fn metrics_vector(model: &Model, state: &State, image_sums: &XlaOp) -> Result<XlaOp> {
    let decaying = model.layout().decaying_len();
    let penalty = loss::l2_penalty(state.array(Array::Weights), decaying, model.l2)?;
    Ok(image_sums.concat_in_dim(&[penalty.reshape(&[1])?], 0)?)
}

/// The first [`crate::model::metrics::PENALTY`] of the metrics over this replica's images, each times its weight.
fn image_sums(loss: &loss::Loss, weights: &XlaOp) -> Result<XlaOp> {
    let sum = |values: &XlaOp| -> Result<XlaOp> {
        Ok((values * weights)?.reduce_sum(&[0], false)?.reshape(&[1])?)
    };
    let cross_entropy = sum(&loss.cross_entropy)?;
    let parts = [
        sum(&loss.correct)?,
        weights.reduce_sum(&[0], false)?.reshape(&[1])?,
    ];
    Ok(cross_entropy.concat_in_dim(&parts, 0)?)
}

/// Whether every element of `values` is finite: a scalar predicate.
fn is_finite(values: &XlaOp) -> Result<XlaOp> {
    // The sum is finite only if every term is.
    Ok(values.reduce_sum(&[0], false)?.is_finite()?)
}

/// `new` where the scalar predicate holds, else `old`.
fn keep_unless(predicate: &XlaOp, new: &XlaOp, old: &XlaOp) -> Result<XlaOp> {
    let spread = predicate.broadcast_in_dim(&to_i64(&new.dims()?), &[])?;
    Ok(spread.select(new, old)?)
}

/// The state, or the network's part of it, as a computation reads it.
#[derive(Default)]
struct State {
    /// In the order of [`Layout::arrays`].
    arrays: Vec<XlaOp>,
    /// The tensors in them.
    tensors: Tensors,
}

impl State {
    fn array(&self, array: Array) -> &XlaOp {
        &self.arrays[array.index()]
    }
}

/// Declares the inputs of a computation, one after another, and builds it.
struct Inputs {
    builder: XlaBuilder,
    count: i64,
}

impl Inputs {
    fn new(name: &str) -> Self {
        Self {
            builder: XlaBuilder::new(name),
            count: 0,
        }
    }

    fn array(&mut self, element: ElementType, dims: &[usize], name: &str) -> Result<XlaOp> {
        let op = self
            .builder
            .parameter(self.count, element, &to_i64(dims), name)?;
        self.count += 1;
        Ok(op)
    }

    /// Declares `arrays`, the first of those of `layout`, and cuts its tensors out of them.
    fn state(&mut self, layout: &Layout, arrays: &[Array]) -> Result<State> {
        let mut state = State::default();
        for &array in arrays {
            let len = layout.len_of(array);
            let flat = self.array(ElementType::F32, &[len], array.name())?;
            let specs = layout.tensors_of(array);
            let home = Place::new(&flat, 0);
            state.tensors.insert_parts(&specs, &flat, &home)?;
            state.arrays.push(flat);
        }
        Ok(state)
    }

    fn ones(&self, len: usize) -> Result<XlaOp> {
        Ok(self.builder.c0(1f32)?.broadcast(&[len as i64])?)
    }

    fn build(&self, outputs: &[XlaOp]) -> Result<Vec<u8>> {
        kernels::complete(&self.builder.build(&self.builder.tuple(outputs)?)?)
    }
}
