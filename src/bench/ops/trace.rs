//! Each operation of a training step as a computation of its own, in the formulation that is asked for.
//!
//! What a step keeps from its forward pass, or hands from one operation to the next, is an input
//! here. Where a batch's sums are taken differs: the kernels sum what they write, for the
//! batch norm behind them; composed of XLA's operations, a batch norm sums what it reads.

use xla::{ElementType, PrimitiveType, XlaBuilder, XlaOp};
use xla_graphs::collective::Replicas;
use xla_graphs::ops::batch_norm::{self, BatchNorm};
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::kernels::{self, BehindNorm, Features, Gradient, Junction};
use xla_graphs::ops::{Lowering, loss, pool, relu};
use xla_graphs::optimiser::{self, Update};
use xla_graphs::table::{Array, NETWORK_ARRAYS};
use xla_graphs::tensors::Tensors;
use xla_graphs::{Layout, Precision, Result, TensorSpec};

use super::list::{Kind, Op, Pass};

const ONE: Replicas = Replicas(1);
/// Has no effect on how long an update takes.
const L2: f32 = 1e-4;
/// As [`L2`].
const MOMENTUM: f32 = 0.9;

/// A computation and what it takes.
pub struct Traced {
    /// A serialised `HloModuleProto`.
    pub hlo: Vec<u8>,
    pub inputs: Vec<Input>,
}

/// An input of a computation.
pub struct Input {
    pub element: ElementType,
    pub dims: Vec<usize>,
}

impl Input {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn bytes(&self) -> usize {
        self.element.element_size_in_bytes() * self.len()
    }
}

/// `op` on `batch` images of a network in `precision`. `layout` is that of the network, for its update. The last result
/// has at least one f32.
pub fn trace(
    op: &Op,
    lowering: Lowering,
    precision: Precision,
    batch: usize,
    layout: &Layout,
) -> Result<Traced> {
    let mut graph = Graph {
        op: *op,
        lowering,
        images: op.images(lowering, precision),
        batch,
        builder: XlaBuilder::new("operation"),
        inputs: Vec::new(),
        tensors: Tensors::new(),
    };
    let fused = lowering == Lowering::Kernels;
    let mut outputs = match (op.kind, op.pass) {
        (Kind::Stem, Pass::Forward) => graph.stem_forward(),
        (Kind::Stem, _) => graph.stem_backward(),
        (Kind::Head, Pass::Forward) => graph.head_forward(),
        (Kind::Head, _) => graph.head_backward(),
        (Kind::Update, _) => graph.update(layout),
        (Kind::Norm { joined }, _) if fused => graph.fused_norm_backward(joined),
        (Kind::Norm { joined }, _) => graph.composed_norm_backward(joined),
        (Kind::Junction { joined }, _) if fused => graph.fused_junction_backward(joined),
        (Kind::Junction { joined }, _) => graph.composed_junction_backward(joined),
        (_, Pass::Forward) if fused => graph.fused_forward(),
        (_, Pass::Forward) => graph.composed_forward(),
        _ if fused => graph.fused_backward(),
        _ => graph.composed_backward(),
    }?;
    if let Some(last) = outputs.last()
        && last.primitive_type()? != PrimitiveType::F32
    {
        let len: usize = last.dims()?.iter().product();
        let flat = last.reshape(&[len as i64])?;
        let first = flat.slice_in_dim(0, 1, 1, 0)?;
        outputs.push(first.convert(PrimitiveType::F32)?);
    }
    let outputs = graph.builder.tuple(&outputs)?;
    Ok(Traced {
        hlo: kernels::complete(&graph.builder.build(&outputs)?)?,
        inputs: graph.inputs,
    })
}

/// A computation under construction.
struct Graph {
    op: Op,
    lowering: Lowering,
    /// The element type of images.
    images: ElementType,
    batch: usize,
    builder: XlaBuilder,
    inputs: Vec<Input>,
    /// The inputs that have names in layers.
    tensors: Tensors,
}

impl Graph {
    fn input(&mut self, dims: &[usize]) -> Result<XlaOp> {
        self.input_of(ElementType::F32, dims)
    }

    fn input_of(&mut self, element: ElementType, dims: &[usize]) -> Result<XlaOp> {
        let number = self.inputs.len();
        let as_i64: Vec<i64> = dims.iter().map(|&side| side as i64).collect();
        let name = format!("input{number}");
        let op = self
            .builder
            .parameter(number as i64, element, &as_i64, &name)?;
        let dims = dims.to_vec();
        self.inputs.push(Input { element, dims });
        Ok(op)
    }

    fn images(&mut self, dims: &[usize]) -> Result<XlaOp> {
        self.input_of(self.images, dims)
    }

    fn weights(&mut self, specs: Vec<TensorSpec>) -> Result<()> {
        for spec in specs {
            let value = self.input(&spec.dims)?;
            self.tensors.insert(spec.name, value);
        }
        Ok(())
    }

    fn conv(&mut self) -> Result<Conv> {
        let conv = Conv {
            name: "conv".to_owned(),
            side: self.op.kernel,
            stride: self.op.stride,
            inputs: self.op.inputs,
            outputs: self.op.outputs,
            padding: Padding::Far,
            lowering: self.lowering,
        };
        self.weights(conv.tensors())?;
        Ok(conv)
    }

    fn batch_norm(&mut self, name: &str, channels: usize) -> Result<BatchNorm> {
        let bn = BatchNorm {
            name: name.to_owned(),
            channels,
            epsilon: batch_norm::EPSILON,
            lowering: self.lowering,
        };
        self.weights(bn.tensors())?;
        Ok(bn)
    }

    fn dense(&mut self) -> Result<Dense> {
        let dense = Dense {
            name: "dense".to_owned(),
            inputs: self.op.inputs,
            outputs: self.op.outputs,
        };
        self.weights(dense.tensors())?;
        Ok(dense)
    }

    /// Images and their statistics, as a kernel leaves them for the next.
    fn features(&mut self, dims: [usize; 4]) -> Result<Features> {
        let images = self.images(&dims)?;
        let mean = self.input(&dims[3..])?;
        Features::new(&images, &mean, &self.input(&dims[3..])?)
    }

    /// The gradient behind `bn`, which normalised `dims`, as a kernel leaves it for the next.
    fn behind(&mut self, bn: &BatchNorm, x: &Features, dims: [usize; 4]) -> Result<BehindNorm> {
        let dz = self.images(&dims)?;
        let sums = self.input(&[2 * dims[3]])?;
        Ok(BehindNorm::new(bn, x, &dz, &sums))
    }

    /// What a batch norm of `dims` keeps for its backward pass.
    fn saved(&mut self, dims: [usize; 4]) -> Result<batch_norm::Saved> {
        Ok(batch_norm::Saved {
            x: self.images(&dims)?,
            mean: self.input(&dims[3..])?,
            rstd: self.input(&dims[3..])?,
            count: dims[..3].iter().product::<usize>() as f32,
        })
    }

    fn fused_forward(&mut self) -> Result<Vec<XlaOp>> {
        let bn = self.batch_norm("bn", self.op.inputs)?;
        let conv = self.conv()?;
        let next = self.batch_norm("next", self.op.outputs)?;
        let x = self.features(self.op.input_dims(self.batch))?;
        let skip = match self.op.kind {
            Kind::Last => Some(self.features(self.op.output_dims(self.batch))?),
            _ => None,
        };
        let y = kernels::forward(&self.tensors, &bn, &conv, &x, skip.as_ref(), ONE)?;
        let mut batch = Tensors::new();
        y.record(&next, &mut batch)?;
        all(&batch)
    }

    fn composed_forward(&mut self) -> Result<Vec<XlaOp>> {
        let conv = self.conv()?;
        let x = self.images(&self.op.input_dims(self.batch))?;
        if self.op.kind == Kind::Shortcut {
            return Ok(vec![conv.forward(&self.tensors, &x)?]);
        }
        let bn = self.batch_norm("bn", self.op.inputs)?;
        let mut batch = Tensors::new();
        let (z, saved) = bn.forward(&self.tensors, &x, ONE, &mut batch)?;
        let activation = relu::forward(&z)?;
        let mut y = conv.forward(&self.tensors, &activation)?;
        if self.op.kind == Kind::Last {
            y = (y + self.images(&self.op.output_dims(self.batch))?)?;
        }
        Ok(vec![y, activation, saved.mean, saved.rstd])
    }

    fn fused_backward(&mut self) -> Result<Vec<XlaOp>> {
        let bn = self.batch_norm("bn", self.op.inputs)?;
        let conv = self.conv()?;
        let x = self.features(self.op.input_dims(self.batch))?;
        let output = self.op.output_dims(self.batch);
        let dy = if self.op.kind == Kind::Inner {
            let next = self.batch_norm("next", self.op.outputs)?;
            let y = self.features(output)?;
            Gradient::BehindNorm(Box::new(self.behind(&next, &y, output)?))
        } else {
            Gradient::Plain(self.images(&output)?)
        };
        let mut gradients = Tensors::new();
        kernels::backward(&self.tensors, &bn, &conv, &x, &dy, ONE, &mut gradients)?;
        all(&gradients)
    }

    fn composed_backward(&mut self) -> Result<Vec<XlaOp>> {
        let mut gradients = Tensors::new();
        let output = self.op.output_dims(self.batch);
        let mut dy = self.images(&output)?;
        if self.op.kind == Kind::Inner {
            dy = self.through_norm(output, &dy, &mut gradients)?;
        }
        let mut outputs = vec![self.conv_backward(&dy, &mut gradients)?];
        outputs.extend(all(&gradients)?);
        Ok(outputs)
    }

    /// From `dy` through the convolution.
    fn conv_backward(&mut self, dy: &XlaOp, gradients: &mut Tensors) -> Result<XlaOp> {
        let conv = self.conv()?;
        let activation = self.images(&self.op.input_dims(self.batch))?;
        conv.backward(&self.tensors, &activation, dy, gradients)
    }

    fn fused_junction_backward(&mut self, joined: bool) -> Result<Vec<XlaOp>> {
        let bn = self.batch_norm("bn", self.op.inputs)?;
        let conv = self.conv()?;
        let x = self.features(self.op.input_dims(self.batch))?;
        let junction = self.junction(self.op.output_dims(self.batch), joined)?;
        let mut gradients = Tensors::new();
        let (_, dy) = kernels::backward_from_junction(
            &self.tensors,
            (&bn, &conv),
            &x,
            junction,
            ONE,
            &mut gradients,
        )?;
        let mut outputs = vec![dy];
        outputs.extend(all(&gradients)?);
        Ok(outputs)
    }

    fn composed_junction_backward(&mut self, joined: bool) -> Result<Vec<XlaOp>> {
        let mut gradients = Tensors::new();
        let dims = self.op.output_dims(self.batch);
        let dy = self.composed_junction(dims, joined, &mut gradients)?;
        let dx = self.conv_backward(&dy, &mut gradients)?;
        let mut outputs = vec![dy, dx];
        outputs.extend(all(&gradients)?);
        Ok(outputs)
    }

    /// The gradient `da` of an activation of `dims`, taken through its ReLU and batch norm.
    fn through_norm(
        &mut self,
        dims: [usize; 4],
        da: &XlaOp,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let bn = self.batch_norm("norm", dims[3])?;
        let activation = self.images(&dims)?;
        let saved = self.saved(dims)?;
        let dz = relu::backward(&activation, da)?;
        bn.backward(&self.tensors, &saved, &dz, ONE, gradients)
    }

    fn fused_norm_backward(&mut self, joined: bool) -> Result<Vec<XlaOp>> {
        let junction = self.junction(self.op.input_dims(self.batch), joined)?;
        Ok(vec![junction.sum(&self.tensors)?])
    }

    /// What meets behind images of `dims`, as kernels leave it.
    fn junction(&mut self, dims: [usize; 4], joined: bool) -> Result<Junction> {
        let bn = self.batch_norm("norm", dims[3])?;
        let x = self.features(dims)?;
        let behind = self.behind(&bn, &x, dims)?;
        if joined {
            let other = self.behind(&bn, &x, dims)?;
            return behind.join(&other, ONE, &mut Tensors::new());
        }
        Ok(behind.with_skip(&self.images(&dims)?))
    }

    fn composed_norm_backward(&mut self, joined: bool) -> Result<Vec<XlaOp>> {
        let mut gradients = Tensors::new();
        let dims = self.op.input_dims(self.batch);
        let mut outputs = vec![self.composed_junction(dims, joined, &mut gradients)?];
        outputs.extend(all(&gradients)?);
        Ok(outputs)
    }

    /// The gradient of images of `dims` out of two branches.
    fn composed_junction(
        &mut self,
        dims: [usize; 4],
        joined: bool,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let mut da = self.images(&dims)?;
        let other = self.images(&dims)?;
        if joined {
            da = (da + &other)?;
        }
        let dx = self.through_norm(dims, &da, gradients)?;
        Ok(if joined { dx } else { (dx + other)? })
    }

    fn stem_forward(&mut self) -> Result<Vec<XlaOp>> {
        let conv = self.conv()?;
        let images = self.images(&self.op.input_dims(self.batch))?;
        let y = conv.forward(&self.tensors, &images)?;
        let mut outputs = vec![y.clone()];
        if self.lowering == Lowering::Kernels {
            let bn = self.batch_norm("bn", self.op.outputs)?;
            let mut batch = Tensors::new();
            bn.forward(&self.tensors, &y, ONE, &mut batch)?;
            outputs.extend(all(&batch)?);
        }
        Ok(outputs)
    }

    fn stem_backward(&mut self) -> Result<Vec<XlaOp>> {
        let conv = self.conv()?;
        let images = self.images(&self.op.input_dims(self.batch))?;
        let dy = self.images(&self.op.output_dims(self.batch))?;
        let mut gradients = Tensors::new();
        conv.backward_kernel(&images, &dy, &mut gradients)?;
        all(&gradients)
    }

    fn head_forward(&mut self) -> Result<Vec<XlaOp>> {
        let bn = self.batch_norm("bn", self.op.inputs)?;
        let dense = self.dense()?;
        let labels = self.input_of(ElementType::S32, &[self.batch])?;
        let dims = self.op.input_dims(self.batch);
        let x = match self.lowering {
            Lowering::Kernels => self.features(dims)?.images()?,
            _ => self.images(&dims)?,
        };
        let mut batch = Tensors::new();
        let (y, saved) = bn.forward(&self.tensors, &x, ONE, &mut batch)?;
        let features = relu::forward(&y)?;
        let pooled = pool::forward(&features)?;
        let logits = dense.forward(&self.tensors, &pooled)?;
        let loss = loss::forward(&logits, &labels, None, 0.0)?;
        let dlogits = loss::backward(&loss, self.batch)?;
        let kept = vec![features, pooled, saved.mean, saved.rstd];
        Ok([kept, vec![dlogits, loss.correct, loss.cross_entropy]].concat())
    }

    fn head_backward(&mut self) -> Result<Vec<XlaOp>> {
        let dims = self.op.input_dims(self.batch);
        let dense = self.dense()?;
        let pooled = self.input(&[self.batch, self.op.inputs])?;
        let dlogits = self.input(&[self.batch, self.op.outputs])?;
        let mut gradients = Tensors::new();
        let dpooled = dense.backward(&self.tensors, &pooled, &dlogits, &mut gradients)?;
        let dfeatures = pool::backward(&dims, &dpooled)?;
        let dfeatures = dfeatures.convert(self.images.primitive_type())?;
        let mut outputs = vec![self.through_norm(dims, &dfeatures, &mut gradients)?];
        outputs.extend(all(&gradients)?);
        Ok(outputs)
    }

    fn update(&mut self, layout: &Layout) -> Result<Vec<XlaOp>> {
        let gradient = self.gathered(layout, Array::Weights)?;
        let batch = self.gathered(layout, Array::Statistics)?;
        let weights = self.input(&[layout.len_of(Array::Weights)])?;
        let slots = layout.arrays().split_off(NETWORK_ARRAYS);
        let slots = slots.iter().map(|slot| self.input(&[layout.len_of(*slot)]));
        let slots = slots.collect::<Result<Vec<_>>>()?;
        let statistics = self.input(&[layout.len_of(Array::Statistics)])?;
        let learning_rate = self.input(&[])?;
        let decaying = layout.decaying_len();
        let penalty = loss::l2_penalty(&weights, decaying, L2)?;
        let gradient = loss::l2_gradient(&weights, &gradient, decaying, L2)?;
        let updated = optimiser::sgd(MOMENTUM).update(&Update {
            tensors: &layout.tensors_of(Array::Weights),
            weights: &weights,
            slots: &slots,
            gradient: &gradient,
            learning_rate: &learning_rate,
            step_count: None,
        })?;
        let statistics = batch_norm::moved(&statistics, &batch, batch_norm::MOMENTUM)?;
        let mut outputs = vec![updated.weights];
        outputs.extend(updated.slots);
        outputs.extend([statistics, penalty]);
        Ok(outputs)
    }

    /// An input for each tensor of `array`, one behind the other.
    fn gathered(&mut self, layout: &Layout, array: Array) -> Result<XlaOp> {
        let tensors = layout.tensors_of(array);
        let inputs = tensors.iter().map(|spec| self.input(&[spec.len()]));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        Ok(inputs[0].concat_in_dim(&inputs[1..], 0)?)
    }
}

/// All values of `tensors`.
fn all(tensors: &Tensors) -> Result<Vec<XlaOp>> {
    Ok(tensors.iter().map(|(_, value)| value.clone()).collect())
}
