//! BN-ReLU-convolution as calls of the kernels made for XLA's CPU backend (crate `cpu_kernels`).
//!
//! `cpu_kernels::calls` says what each call expects: a plan, a vector of numbers, then arrays. A
//! kernel has one result; where several arrays lie in it, the next kernel gets the whole result and
//! is told where to look, so that no large array is ever copied. Weights are read in the same way
//! from the flat array of the state.

use xla::{ElementType, XlaOp};

use crate::collective::Replicas;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::to_i64;
use crate::tensors::Tensors;
use crate::{GraphError, Result};

/// Images `[N, H, W, C]` and the statistics by which they are to be normalised.
#[derive(Clone)]
pub struct Features {
    /// Has the images' values in front.
    values: XlaOp,
    dims: [usize; 4],
    statistics: Statistics,
}

/// Mean and variance of each channel.
#[derive(Clone)]
struct Statistics {
    mean: Place,
    variance: Place,
}

/// Where in an array something begins.
#[derive(Clone)]
struct Place {
    array: XlaOp,
    offset: usize,
}

/// The gradient of a layer's result.
pub enum Gradient {
    /// `[N, H, W, C]`.
    Plain(XlaOp),
    /// Still behind the batch norm of the next layer.
    BehindNorm(BehindNorm),
}

/// The gradient of the result of the batch norm `bn`, before its ReLU.
pub struct BehindNorm {
    bn: BatchNorm,
    /// What was normalised.
    x: Features,
    /// Has the gradient's values in front.
    dz: XlaOp,
    /// Sums over the batch: dgamma, and dbeta behind it.
    sums: Place,
    /// Values that the sums run over.
    count: usize,
}

/// y = conv(relu(bn(x))) + skip, with the statistics of y over all `replicas`.
///
/// `x` `[N, H, W, C]`, `skip` and y `[N, h, w, O]`.
pub fn forward(
    params: &Tensors,
    bn: &BatchNorm,
    conv: &Conv,
    x: &Features,
    skip: Option<&Features>,
    replicas: Replicas,
) -> Result<Features> {
    let mut call = layer_call(params, bn, conv, x)?.number(skip.is_some().into());
    if let Some(skip) = skip {
        call = call.array(&place(&skip.values, 0));
    }
    let [n, h, w, _] = x.dims;
    let dims = [n, conv.output_side(h), conv.output_side(w), conv.outputs];
    let len = dims.iter().product();
    let values = call.build("resnet_layer_forward", len + 2 * conv.outputs)?;
    let own = Statistics::within(&values, len, conv.outputs);
    Ok(Features {
        statistics: own.over(replicas, conv.outputs)?,
        values,
        dims,
    })
}

/// The gradients of [`forward`] at `x`: those of the convolution's kernel and of the batch norm's
/// gamma and beta go into `gradients` (beta's behind gamma's, under gamma's name), the one of what
/// `bn` made of `x` is returned. The skip's gradient is `dy` itself.
pub fn backward(
    params: &Tensors,
    bn: &BatchNorm,
    conv: &Conv,
    x: &Features,
    dy: &Gradient,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<BehindNorm> {
    let call = layer_call(params, bn, conv, x)?;
    let call = match dy {
        Gradient::Plain(dy) => call.number(0).array(&place(dy, 0)),
        Gradient::BehindNorm(behind) => behind.describe(params, call.number(1))?,
    };
    let (len, sums_len) = (x.len(), 2 * conv.inputs);
    let kernel_len = conv.side * conv.side * conv.inputs * conv.outputs;
    let dz = call.build("resnet_layer_backward", len + sums_len + kernel_len)?;

    let kernel = place(&dz, len + sums_len).part(kernel_len)?;
    gradients.insert(conv.kernel(), kernel);
    let mut behind = BehindNorm::new(bn, x, &dz);
    let own = behind.sums.part(sums_len)?;
    if replicas.0 > 1 {
        behind.sums = place(&replicas.sum(&own)?, 0);
        behind.count *= replicas.0;
    }
    gradients.insert(bn.path("gamma"), own);
    Ok(behind)
}

impl Features {
    /// Images `x` `[N, H, W, C]` whose channels have `mean` and `variance`, `[C]` each.
    pub fn new(x: &XlaOp, mean: &XlaOp, variance: &XlaOp) -> Result<Self> {
        Ok(Self {
            values: x.clone(),
            dims: image_dims(x)?,
            statistics: Statistics::joined(mean, variance)?,
        })
    }

    /// Images `x` `[N, H, W, C]`, to be normalised by the moving statistics of `bn`: inference.
    pub fn inferring(params: &Tensors, x: &XlaOp, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            values: x.clone(),
            dims: image_dims(x)?,
            statistics: Statistics::moving(params, bn)?,
        })
    }

    /// The same images, to be normalised by the moving statistics of `bn`.
    pub fn with_moving_statistics(&self, params: &Tensors, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            statistics: Statistics::moving(params, bn)?,
            ..self.clone()
        })
    }

    /// The images alone, `[N, H, W, C]`.
    pub fn images(&self) -> Result<XlaOp> {
        let values = place(&self.values, 0).part(self.len())?;
        Ok(values.reshape(&to_i64(&self.dims))?)
    }

    /// Puts the batch's mean and variance into `batch`, one behind the other under the name of the
    /// moving mean of `bn`, which normalises these images.
    pub fn record(&self, bn: &BatchNorm, batch: &mut Tensors) -> Result<()> {
        // A batch's statistics always lie side by side.
        let moments = self.statistics.mean.part(2 * self.dims[3])?;
        batch.insert(bn.path("moving_mean"), moments);
        Ok(())
    }

    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Values per channel.
    fn pixels(&self) -> usize {
        self.len() / self.dims[3]
    }
}

impl Statistics {
    /// Of `mean` and `variance`, `[C]` each.
    fn joined(mean: &XlaOp, variance: &XlaOp) -> Result<Self> {
        let array = mean.concat_in_dim(&[variance], 0)?;
        Ok(Self::within(&array, 0, mean.dims()?[0]))
    }

    /// The mean of `channels` at `offset` of `array`, the variance behind it.
    fn within(array: &XlaOp, offset: usize, channels: usize) -> Self {
        Self {
            mean: place(array, offset),
            variance: place(array, offset + channels),
        }
    }

    /// The moving ones of `bn`.
    fn moving(params: &Tensors, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            mean: home(params, &bn.path("moving_mean"))?,
            variance: home(params, &bn.path("moving_variance"))?,
        })
    }

    /// Of all replicas' images, from this replica's alone; each has as many images.
    ///
    /// The mean is the mean of the means; the variance is the mean of the variances and of the
    /// squared distances of the means from their mean.
    fn over(self, replicas: Replicas, channels: usize) -> Result<Self> {
        if replicas.0 == 1 {
            return Ok(self);
        }
        let own_mean = self.mean.part(channels)?;
        let mean = replicas.mean(&own_mean)?;
        let apart = (own_mean - &mean)?;
        let spread = (self.variance.part(channels)? + (&apart * &apart)?)?;
        Self::joined(&mean, &replicas.mean(&spread)?)
    }
}

impl BehindNorm {
    /// The gradient of what `bn` made of `x`, from an array that has its values in front, dgamma and
    /// dbeta over the images of `x` behind them.
    pub fn new(bn: &BatchNorm, x: &Features, dz: &XlaOp) -> Self {
        Self {
            bn: bn.clone(),
            x: x.clone(),
            dz: dz.clone(),
            sums: place(dz, x.len()),
            count: x.pixels(),
        }
    }

    /// dx + skip: the gradient of the batch norm's input, and what else flows there, `[N, H, W, C]`.
    pub fn through_norm(&self, params: &Tensors, skip: &XlaOp) -> Result<XlaOp> {
        self.input_gradient(params, skip, false)
    }

    /// dx of this gradient and of `other`, which lies behind the same batch norm. `gradients` gets
    /// the sum of both for gamma and beta.
    pub fn join(
        &self,
        params: &Tensors,
        other: &Self,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let own = |behind: &Self| place(&behind.dz, behind.x.len()).part(2 * behind.x.dims[3]);
        let own = (own(self)? + own(other)?)?;
        let joined = Self {
            bn: self.bn.clone(),
            x: self.x.clone(),
            dz: self.dz.clone(),
            sums: place(&replicas.sum(&own)?, 0),
            count: self.count,
        };
        gradients.insert(self.bn.path("gamma"), own);
        joined.input_gradient(params, &other.dz, true)
    }

    fn input_gradient(&self, params: &Tensors, added: &XlaOp, joined: bool) -> Result<XlaOp> {
        let call = Call::default()
            .number(self.x.pixels())
            .number(self.x.dims[3]);
        let call = self.describe(params, call)?;
        let call = call.number(joined.into()).array(&place(added, 0));
        let dx = call.build("resnet_norm_backward", self.x.len())?;
        Ok(dx.reshape(&to_i64(&self.x.dims))?)
    }

    /// Adds what a kernel must know of this gradient to `call`.
    fn describe(&self, params: &Tensors, call: Call) -> Result<Call> {
        let dbeta = place(&self.sums.array, self.sums.offset + self.x.dims[3]);
        Ok(call
            .norm(params, &self.bn, &self.x.statistics)?
            .array(&self.sums)
            .array(&dbeta)
            .number(self.count)
            .array(&place(&self.dz, 0))
            .array(&place(&self.x.values, 0)))
    }
}

impl Place {
    /// `len` values from here.
    fn part(&self, len: usize) -> Result<XlaOp> {
        let call = Call::default().array(self).number(len);
        call.build("resnet_part", len)
    }
}

fn place(array: &XlaOp, offset: usize) -> Place {
    Place {
        array: array.clone(),
        offset,
    }
}

/// Where the tensor `name` lies.
fn home(params: &Tensors, name: &str) -> Result<Place> {
    let (array, offset) = params.home(name)?;
    Ok(place(array, offset))
}

/// The part of a call that both directions share.
fn layer_call(params: &Tensors, bn: &BatchNorm, conv: &Conv, x: &Features) -> Result<Call> {
    let mut call = Call::default();
    let [n, h, w, c] = x.dims;
    for number in [n, h, w, c, conv.outputs, conv.side, conv.stride] {
        call = call.number(number);
    }
    Ok(call
        .norm(params, bn, &x.statistics)?
        .array(&home(params, &conv.kernel())?)
        .array(&place(&x.values, 0)))
}

/// A call's plan and operands, in the order in which the kernel takes them.
#[derive(Default)]
struct Call {
    plan: Vec<usize>,
    operands: Vec<XlaOp>,
}

impl Call {
    fn number(mut self, number: usize) -> Self {
        self.plan.push(number);
        self
    }

    fn array(mut self, place: &Place) -> Self {
        self.plan.push(place.offset);
        self.operands.push(place.array.clone());
        self
    }

    /// Mean, variance, gamma and beta.
    fn norm(self, params: &Tensors, bn: &BatchNorm, statistics: &Statistics) -> Result<Self> {
        Ok(self
            .array(&statistics.mean)
            .array(&statistics.variance)
            .array(&home(params, &bn.path("gamma"))?)
            .array(&home(params, &bn.path("beta"))?))
    }

    /// The call of the kernel `name`, whose result is `[len]` f32.
    fn build(self, name: &str, len: usize) -> Result<XlaOp> {
        let numbers = self.plan.iter().map(|&number| i32::try_from(number));
        let Ok(plan) = numbers.collect::<std::result::Result<Vec<i32>, _>>() else {
            return Err(GraphError::TooLarge {
                call: name.to_owned(),
            });
        };
        let builder = self.operands[0].builder();
        let mut operands = vec![builder.c1(&plan)?];
        operands.extend(self.operands.iter().cloned());
        Ok(builder.custom_call(name, &operands, ElementType::F32, &[len as i64], &[])?)
    }
}

/// The dimensions `[N, H, W, C]` of images.
fn image_dims(x: &XlaOp) -> Result<[usize; 4]> {
    let dims = x.dims()?;
    dims.try_into().map_err(|got: Vec<usize>| GraphError::Rank {
        expected: "[N, H, W, C]",
        got,
    })
}
