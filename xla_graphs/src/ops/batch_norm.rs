//! Batch normalisation over the batch and image axes (Ioffe & Szegedy 2015, as Keras defines it).

use crate::ops::lowering::Lowering;
use crate::table::{Init, Role, TensorSpec};
#[cfg(feature = "trace")]
use {
    crate::arrays::{blend, cast, scalar_like},
    crate::collective::Replicas,
    crate::error::Result,
    crate::ops::channels::{per_channel, sum_to_channel},
    crate::tensors::Tensors,
    xla::{PrimitiveType, XlaOp},
};

/// Share of the old value that a moving statistic keeps at each step (Keras's default).
pub const MOMENTUM: f64 = 0.99;
/// What the networks here add to the variance, but for those of version 1.
pub use kernel_contract::EPSILON;

/// One batch-normalisation layer. Statistics are f32 whatever the precision of the activations.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    pub name: String,
    pub channels: usize,
    /// Added to the variance; on the kernels it must be [`EPSILON`].
    pub epsilon: f32,
    pub lowering: Lowering,
}

/// What the backward pass needs from the forward pass.
#[cfg(feature = "trace")]
pub struct Saved {
    /// The input, `[N, H, W, C]`.
    pub x: XlaOp,
    /// Mean over the batch, `[C]`.
    pub mean: XlaOp,
    /// 1 / sqrt(variance + ε), `[C]`.
    pub rstd: XlaOp,
    /// Values per channel, over all replicas that share the statistics.
    pub count: f32,
}

#[cfg(feature = "trace")]
impl Saved {
    /// x − μ, in f32.
    pub(crate) fn centred(&self) -> Result<XlaOp> {
        let x = cast(&self.x, PrimitiveType::F32)?;
        Ok((&x - per_channel(&self.mean, &x.dims()?)?)?)
    }
}

/// The terms of dx = a·dy − b·x − c, all `[N, H, W, C]` and f32.
#[cfg(feature = "trace")]
pub(crate) struct InputGradient {
    scaled: XlaOp,
    projection: XlaOp,
    shift: XlaOp,
    /// Of dx.
    precision: PrimitiveType,
}

#[cfg(feature = "trace")]
impl InputGradient {
    pub fn dx(&self) -> Result<XlaOp> {
        let dx = ((&self.scaled - &self.projection)? - &self.shift)?;
        cast(&dx, self.precision)
    }

    /// [`Self::dx`], but for rounding: its terms are added in another order, so that no compiler sees that both are the same.
    /// A TPU's compiler stores what three operations read, and works out again in each what no more than two do.
    pub fn dx_again(&self) -> Result<XlaOp> {
        let dx = (&self.scaled - (&self.projection + &self.shift)?)?;
        cast(&dx, self.precision)
    }
}

impl BatchNorm {
    pub(crate) fn path(&self, tensor: &str) -> String {
        format!("{}/{tensor}", self.name)
    }

    /// gamma, beta, moving_mean and moving_variance, each `[C]`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let spec = |tensor, init, role| TensorSpec {
            name: self.path(tensor),
            dims: vec![self.channels],
            init,
            role,
        };
        let weight = Role::Weight { decays: false };
        vec![
            spec("gamma", Init::Ones, weight),
            spec("beta", Init::Zeros, weight),
            spec("moving_mean", Init::Zeros, Role::MovingStatistic),
            spec("moving_variance", Init::Ones, Role::MovingStatistic),
        ]
    }
}

#[cfg(feature = "trace")]
impl BatchNorm {
    /// y = gamma · (x − μ) / sqrt(σ² + ε) + beta with μ, σ² of this batch, per channel; σ² is the
    /// mean squared deviation (divided by N·H·W, not one less). `[N, H, W, C]` in and out.
    ///
    /// The batch's statistics go into `batch`, under the names of the moving ones.
    pub fn forward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Saved)> {
        let (mean, variance) = self.statistics(params, x, replicas)?;
        batch.insert(self.path("moving_mean"), mean);
        batch.insert(self.path("moving_variance"), variance);
        self.normalise(params, x, replicas, batch)
    }

    /// [`Self::forward`] once the batch's statistics are in `batch`.
    pub(crate) fn normalise(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &Tensors,
    ) -> Result<(XlaOp, Saved)> {
        let mean = batch.get(&self.path("moving_mean"))?.clone();
        let variance = batch.get(&self.path("moving_variance"))?;
        let rstd = (variance + scalar_like(variance, self.epsilon)?)?.rsqrt()?;
        let y = self.scale_and_shift(params, x, &mean, &rstd)?;
        let saved = Saved {
            x: x.clone(),
            mean,
            rstd,
            count: values_per_channel(x, replicas)?,
        };
        Ok((y, saved))
    }

    /// Mean and variance of each channel of `x` over all `replicas`, `[C]` each.
    ///
    /// Both come from one pass over `x`: with a pivot p, μ = p + E[x − p] and
    /// σ² = E[(x − p)²] − E[x − p]². The moving mean is the pivot, so that the subtraction loses no
    /// digits once training is under way.
    pub(crate) fn statistics(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
    ) -> Result<(XlaOp, XlaOp)> {
        let pivot = params.get(&self.path("moving_mean"))?;
        let shifted = (cast(x, PrimitiveType::F32)? - per_channel(pivot, &x.dims()?)?)?;
        let squared = (&shifted * &shifted)?;
        let [sum, sum_of_squares] = replicas.sum_all([
            &sum_to_channel(&shifted, self.lowering)?,
            &sum_to_channel(&squared, self.lowering)?,
        ])?;
        let divisor = scalar_like(&shifted, values_per_channel(x, replicas)?)?;
        let first = (sum / &divisor)?;
        let second = (sum_of_squares / &divisor)?;
        let mean = (pivot + &first)?;
        let variance = (second - (&first * &first)?)?.max(&scalar_like(&first, 0.0)?)?;
        Ok((mean, variance))
    }

    /// With x̂ = (x − μ) · rstd and M values per channel:
    /// dbeta = Σ dy, dgamma = Σ dy·x̂, dx = gamma · rstd · (dy − dbeta/M − x̂ · dgamma/M).
    ///
    /// The sums in dx run over all replicas that shared the statistics; the gradients of gamma and
    /// beta are this replica's own, to be summed with all others by the step.
    pub fn backward(
        &self,
        params: &Tensors,
        saved: &Saved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let input = self.input_gradient(params, saved, dy, replicas, gradients)?;
        input.dx()
    }

    /// [`Self::backward`], with what dx is made of as its result.
    pub(crate) fn input_gradient(
        &self,
        params: &Tensors,
        saved: &Saved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<InputGradient> {
        let wide = cast(dy, PrimitiveType::F32)?;
        let dbeta = sum_to_channel(&wide, self.lowering)?;
        let product = (&wide * saved.centred()?)?;
        let dgamma = (sum_to_channel(&product, self.lowering)? * &saved.rstd)?;
        self.input_gradient_of(params, saved, dy, [dbeta, dgamma], replicas, gradients)
    }

    /// [`Self::input_gradient`] once this replica's sums, dbeta and dgamma, are known.
    pub(crate) fn input_gradient_of(
        &self,
        params: &Tensors,
        saved: &Saved,
        dy: &XlaOp,
        [dbeta, dgamma]: [XlaOp; 2],
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<InputGradient> {
        let [sum_dy, sum_dy_x_hat] = replicas.sum_all([&dbeta, &dgamma])?;
        let count = scalar_like(&dbeta, saved.count)?;
        let mean_dy = (sum_dy / &count)?;
        let mean_dy_x_hat = (sum_dy_x_hat / &count)?;
        // dx as a·dy − b·x − c: what is the same for a whole channel is worked out once.
        let a = (params.get(&self.path("gamma"))? * &saved.rstd)?;
        let b = (&a * (mean_dy_x_hat * &saved.rstd)?)?;
        let c = ((&a * mean_dy)? - (&b * &saved.mean)?)?;
        let dims = dy.dims()?;
        let wide = cast(dy, PrimitiveType::F32)?;
        let x = cast(&saved.x, PrimitiveType::F32)?;
        gradients.insert(self.path("gamma"), dgamma);
        gradients.insert(self.path("beta"), dbeta);
        Ok(InputGradient {
            scaled: (wide * per_channel(&a, &dims)?)?,
            projection: (x * per_channel(&b, &dims)?)?,
            shift: per_channel(&c, &dims)?,
            precision: dy.primitive_type()?,
        })
    }

    /// y = gamma · (x − moving_mean) / sqrt(moving_variance + ε) + beta: inference.
    pub fn infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let variance = params.get(&self.path("moving_variance"))?;
        let rstd = (variance + scalar_like(variance, self.epsilon)?)?.rsqrt()?;
        let mean = params.get(&self.path("moving_mean"))?;
        self.scale_and_shift(params, x, mean, &rstd)
    }

    /// y = x · slope + shift with slope = gamma · rstd and shift = beta − mean · slope, in the precision
    /// of `x`.
    fn scale_and_shift(
        &self,
        params: &Tensors,
        x: &XlaOp,
        mean: &XlaOp,
        rstd: &XlaOp,
    ) -> Result<XlaOp> {
        let dims = x.dims()?;
        let slope = (params.get(&self.path("gamma"))? * rstd)?;
        let shift = (params.get(&self.path("beta"))? - (mean * &slope)?)?;
        let scaled = (cast(x, PrimitiveType::F32)? * per_channel(&slope, &dims)?)?;
        let y = (scaled + per_channel(&shift, &dims)?)?;
        cast(&y, x.primitive_type()?)
    }
}

/// Values per channel of `x` `[N, H, W, C]`, over all `replicas`.
#[cfg(feature = "trace")]
fn values_per_channel(x: &XlaOp, replicas: Replicas) -> Result<f32> {
    let per_replica: usize = x.dims()?[..3].iter().product();
    Ok((per_replica * replicas.0) as f32)
}

/// The next value of a moving statistic: m ← momentum · m + (1 − momentum) · batch value, any shape.
#[cfg(feature = "trace")]
pub fn moved(moving: &XlaOp, batch: &XlaOp, momentum: f64) -> Result<XlaOp> {
    blend(moving, batch, momentum)
}
