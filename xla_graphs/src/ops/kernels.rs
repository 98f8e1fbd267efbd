//! BN-ReLU-convolution as calls of the kernels made for XLA's CPU backend (crate `cpu_kernels`).
//!
//! `cpu_kernels::calls` says what each call expects: a plan, a vector of numbers, then arrays. A
//! kernel has one result; where several arrays lie in it, the next kernel gets the whole result and
//! is told where to look, so that no large array is ever copied. Weights are read in the same way
//! from the flat array of the state.

use xla::{ElementType, XlaBuilder, XlaOp};

use crate::collective::Replicas;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::{dims_of, to_i64};
use crate::tensors::{Place, Tensors};
use crate::{GraphError, Result};

/// Images `[N, H, W, C]` and the statistics by which they are to be normalised.
#[derive(Clone)]
pub struct Features {
    values: Place,
    dims: [usize; 4],
    statistics: Statistics,
}

/// Mean and variance of each channel.
#[derive(Clone)]
struct Statistics {
    mean: Place,
    variance: Place,
}

/// The gradient of a layer's result.
pub enum Gradient {
    /// `[N, H, W, C]`.
    Plain(XlaOp),
    /// Still behind the batch norm of the next layer.
    BehindNorm(Box<BehindNorm>),
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
        call = call.array(&skip.values);
    }
    let [n, h, w, _] = x.dims;
    let dims = [n, conv.output_side(h), conv.output_side(w), conv.outputs];
    let len = dims.iter().product();
    let values = call.build("resnet_layer_forward", len + 2 * conv.outputs)?;
    let own = Statistics::within(&values, len, conv.outputs);
    Ok(Features {
        statistics: own.over(replicas, conv.outputs)?,
        values: Place::new(&values, 0),
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
        Gradient::Plain(dy) => call.number(0).array(&Place::new(dy, 0)),
        Gradient::BehindNorm(behind) => behind.describe(params, call.number(1))?,
    };
    let (len, sums_len) = (x.len(), 2 * conv.inputs);
    let kernel_len = conv.side * conv.side * conv.inputs * conv.outputs;
    let dz = call.build("resnet_layer_backward", len + sums_len + kernel_len)?;

    let kernel = part(&Place::new(&dz, len + sums_len), kernel_len)?;
    gradients.insert(conv.kernel(), kernel);
    let mut behind = BehindNorm::new(bn, x, &dz);
    let own = part(&behind.sums, sums_len)?;
    if replicas.0 > 1 {
        behind.sums = Place::new(&replicas.sum(&own)?, 0);
        behind.count *= replicas.0;
    }
    gradients.insert(bn.path("gamma"), own);
    Ok(behind)
}

impl Features {
    /// Images `x` `[N, H, W, C]` whose channels have `mean` and `variance`, `[C]` each.
    pub fn new(x: &XlaOp, mean: &XlaOp, variance: &XlaOp) -> Result<Self> {
        Ok(Self {
            values: Place::new(x, 0),
            dims: dims_of(x, "[N, H, W, C]")?,
            statistics: Statistics::joined(mean, variance)?,
        })
    }

    /// Images `x` `[N, H, W, C]`, to be normalised by the moving statistics of `bn`: inference.
    pub fn inferring(params: &Tensors, x: &XlaOp, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            values: Place::new(x, 0),
            dims: dims_of(x, "[N, H, W, C]")?,
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

    /// Images in row `round` of `stack` `[rows, N, H, W, C]`, to be normalised by what `statistics` has
    /// under the names of the moving statistics of `bn`.
    pub fn in_row(
        stack: &XlaOp,
        round: &XlaOp,
        statistics: &Tensors,
        bn: &BatchNorm,
    ) -> Result<Self> {
        let [_, n, h, w, c] = dims_of(stack, "[rows, N, H, W, C]")?;
        let dims = [n, h, w, c];
        let values = Place {
            round: Some((round.clone(), dims.iter().product())),
            ..Place::new(stack, 0)
        };
        Ok(Self {
            values,
            dims,
            statistics: Statistics::moving(statistics, bn)?,
        })
    }

    /// The images alone, `[N, H, W, C]`.
    pub fn images(&self) -> Result<XlaOp> {
        let (start, len) = (self.values.offset, self.len());
        let values = match self.values.round {
            Some(_) => part(&self.values, len)?,
            // XLA writes this one straight to where it goes.
            None => {
                let array = &self.values.array;
                let flat = array.reshape(&[array.dims()?.iter().product::<usize>() as i64])?;
                flat.slice_in_dim(start as i64, (start + len) as i64, 1, 0)?
            }
        };
        Ok(values.reshape(&to_i64(&self.dims))?)
    }

    /// Mean and variance of each channel, one behind the other: `[2·C]`.
    pub fn moments(&self) -> Result<XlaOp> {
        // A batch's statistics always lie side by side.
        part(&self.statistics.mean, 2 * self.dims[3])
    }

    /// Puts the batch's mean and variance into `batch`, one behind the other under the name of the
    /// moving mean of `bn`, which normalises these images.
    pub fn record(&self, bn: &BatchNorm, batch: &mut Tensors) -> Result<()> {
        batch.insert(bn.path("moving_mean"), self.moments()?);
        Ok(())
    }

    /// `[N, H, W, C]`.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
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
            mean: Place::new(array, offset),
            variance: Place::new(array, offset + channels),
        }
    }

    /// The moving ones of `bn`.
    fn moving(params: &Tensors, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            mean: params.home(&bn.path("moving_mean"))?.clone(),
            variance: params.home(&bn.path("moving_variance"))?.clone(),
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
        let own_mean = part(&self.mean, channels)?;
        let mean = replicas.mean(&own_mean)?;
        let apart = (own_mean - &mean)?;
        let spread = (part(&self.variance, channels)? + (&apart * &apart)?)?;
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
            sums: Place::new(dz, x.len()),
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
        let own = |behind: &Self| {
            let sums = Place::new(&behind.dz, behind.x.len());
            part(&sums, 2 * behind.x.dims[3])
        };
        let own = (own(self)? + own(other)?)?;
        let joined = Self {
            bn: self.bn.clone(),
            x: self.x.clone(),
            dz: self.dz.clone(),
            sums: Place::new(&replicas.sum(&own)?, 0),
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
        let call = call.number(joined.into()).array(&Place::new(added, 0));
        let dx = call.build("resnet_norm_backward", self.x.len())?;
        Ok(dx.reshape(&to_i64(&self.x.dims))?)
    }

    /// Adds what a kernel must know of this gradient to `call`.
    fn describe(&self, params: &Tensors, call: Call) -> Result<Call> {
        let dbeta = Place::new(&self.sums.array, self.sums.offset + self.x.dims[3]);
        Ok(call
            .norm(params, &self.bn, &self.x.statistics)?
            .array(&self.sums)
            .array(&dbeta)
            .number(self.count)
            .array(&Place::new(&self.dz, 0))
            .array(&self.x.values))
    }
}

/// `len` values from `start` on.
fn part(start: &Place, len: usize) -> Result<XlaOp> {
    let call = Call::default().array(start).number(len);
    call.build("resnet_part", len)
}

/// An array of dimensions `dims` whose values are not set: what takes it must write before it reads.
/// `number` tells it from others of the same size, or XLA would make one of them and copy it.
pub fn unwritten(builder: &XlaBuilder, dims: &[usize], number: i32) -> Result<XlaOp> {
    let operands = [builder.c0(number)?];
    let dims = to_i64(dims);
    Ok(builder.custom_call("resnet_unwritten", &operands, ElementType::F32, &dims, &[])?)
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
        .array(params.home(&conv.kernel())?)
        .array(&x.values))
}

/// A call's plan and operands, in the order in which the kernel takes them.
#[derive(Default)]
struct Call {
    plan: Vec<usize>,
    /// In a loop, the number of the round.
    round: Option<XlaOp>,
    operands: Vec<XlaOp>,
}

impl Call {
    fn number(mut self, number: usize) -> Self {
        self.plan.push(number);
        self
    }

    fn array(mut self, place: &Place) -> Self {
        let growth = place.round.as_ref().map_or(0, |(_, growth)| *growth);
        self.plan.extend([place.offset, growth]);
        if let Some((round, _)) = &place.round {
            self.round = Some(round.clone());
        }
        self.operands.push(place.array.clone());
        self
    }

    /// Mean, variance, gamma and beta.
    fn norm(self, params: &Tensors, bn: &BatchNorm, statistics: &Statistics) -> Result<Self> {
        Ok(self
            .array(&statistics.mean)
            .array(&statistics.variance)
            .array(params.home(&bn.path("gamma"))?)
            .array(params.home(&bn.path("beta"))?))
    }

    /// The call of the kernel `name`, whose result is `[len]` f32.
    fn build(self, name: &str, len: usize) -> Result<XlaOp> {
        let builder = self.operands[0].builder();
        let numbers = self.plan.iter().map(|&number| i32::try_from(number));
        let Ok(plan) = numbers.collect::<std::result::Result<Vec<i32>, _>>() else {
            return Err(GraphError::TooLarge {
                call: name.to_owned(),
            });
        };
        let round = match self.round {
            Some(round) => round,
            None => builder.c0(0i32)?,
        };
        let mut operands = vec![builder.c1(&plan)?, round];
        operands.extend(self.operands.iter().cloned());
        Ok(builder.custom_call(name, &operands, ElementType::F32, &[len as i64], &[])?)
    }
}
