//! The backward pass of a batch norm, a ReLU and the convolutions that read the result, in which the sums of the batch norm
//! come from gradients of kernels.
//!
//! ```text
//!  z = γ·x̂ + β   active = z > 0   a = relu(z) ─► conv ─► dy        dz = active · da
//! ```
//!
//! A convolution pairs the same pixels of a and dy in its kernel's gradient G(a, dy) = Σ a·dy as in da = Σ kernel·dy. So for
//! images m of any kind, Σ m·da over all pixels is Σ kernel·G(m, dy) over pixels of the kernel and outputs, for each input
//! channel. With Q = G(active, dy) and R = G(active · (x − μ), dy):
//!
//! ```text
//!  dbeta = Σ dz = Σ kernel·Q      dgamma = rstd · Σ dz·(x − μ) = rstd · Σ kernel·R      dkernel = γ·rstd·R + β·Q
//! ```
//!
//! The sums are then known before da is, and a TPU's compiler puts da, the batch norm and the sum with the skip into one
//! operation: da is never stored. It costs another gradient of the kernel, which for a 1x1 convolution is cheap.

use xla::{PrimitiveType, XlaOp};

use crate::arrays::{cast, to_i64};
use crate::collective::Replicas;
use crate::error::Result;
use crate::network::activation::Activation;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::{Lowering, relu};
use crate::tensors::Tensors;

/// A convolution that reads the activation.
pub(crate) struct Reader<'a> {
    pub conv: &'a Conv,
    /// The gradient of its result.
    pub dy: &'a XlaOp,
    /// The same, or as [`dx_again`](crate::ops::batch_norm::InputGradient::dx_again) writes it.
    pub dy_again: &'a XlaOp,
}

/// Whether the batch norm before `conv`, with which a unit begins, takes its sums from gradients of kernels.
pub(crate) fn suit(conv: &Conv) -> bool {
    conv.lowering == Lowering::Tpu && conv.side == 1
}

/// dx of the batch norm `bn` at `activation`, which one convolution or two read; the gradients of its weights and of their
/// kernels go into `gradients`.
pub(crate) fn backward(
    activation: &Activation,
    bn: &BatchNorm,
    params: &Tensors,
    (reader, other): (Reader, Option<Reader>),
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    let (saved, y) = (&activation.bn, &activation.y);
    let images = Images::of(activation)?;
    let dims = y.dims()?;
    let slope = (params.get(&bn.path("gamma"))? * &saved.rstd)?;
    let line = [&slope, params.get(&bn.path("beta"))?];
    let [mut dbeta, mut product] = images.sums(&reader, params, line, gradients)?;
    let mut da = (reader.conv).backward_input(params, &dims, reader.dy)?;
    if let Some(other) = other {
        let more = images.sums(&other, params, line, gradients)?;
        (dbeta, product) = ((dbeta + &more[0])?, (product + &more[1])?);
        da = (da + (other.conv).backward_input(params, &dims, other.dy)?)?;
    }
    let sums = [dbeta, (product * &saved.rstd)?];
    let dz = relu::backward_again(y, &da)?;
    bn.input_gradient_of(params, saved, &dz, sums, replicas, gradients)?
        .dx()
}

/// What stands in the place of the activation in gradients of kernels, in its precision.
struct Images {
    /// 1 where the ReLU let the batch norm's result through, else 0.
    active: XlaOp,
    /// x − μ there, else 0.
    centred: XlaOp,
}

impl Images {
    fn of(activation: &Activation) -> Result<Self> {
        let precision = activation.y.primitive_type()?;
        let active = relu::active(&activation.y)?;
        let centred = cast(&activation.bn.centred()?, precision)?;
        Ok(Self {
            centred: active.select(&centred, &centred.zeros_like()?)?,
            active: active.convert(precision)?,
        })
    }

    /// Σ dz and Σ dz·(x − μ) of what goes back through `reader`, `[C]` each; its kernel's gradient, with `slope` γ·rstd and
    /// `beta`, goes into `gradients`.
    fn sums(
        &self,
        reader: &Reader,
        params: &Tensors,
        [slope, beta]: [&XlaOp; 2],
        gradients: &mut Tensors,
    ) -> Result<[XlaOp; 2]> {
        let of_active = (reader.conv).kernel_gradient(&self.active, reader.dy_again)?;
        let of_centred = (reader.conv).kernel_gradient(&self.centred, reader.dy_again)?;
        let dims = to_i64(&of_active.dims()?);
        let scaled = (&of_centred * slope.broadcast_in_dim(&dims, &[2])?)?;
        let shifted = (&of_active * beta.broadcast_in_dim(&dims, &[2])?)?;
        gradients.insert(reader.conv.kernel(), (scaled + shifted)?);

        // As the convolution reads it.
        let kernel = cast(
            params.get(&reader.conv.kernel())?,
            self.active.primitive_type()?,
        )?;
        let kernel = cast(&kernel, PrimitiveType::F32)?;
        let sum = |gradient: XlaOp| (&kernel * gradient)?.reduce_sum(&[0, 1, 3], false);
        Ok([sum(of_active)?, sum(of_centred)?])
    }
}
