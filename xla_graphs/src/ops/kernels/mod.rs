//! BN-ReLU-convolution as calls of the kernels made for XLA's CPU backend (crate `cpu_kernels`).
//!
//! ```text
//!  forward    x ─► layer 1 ─► h ─► layer 2 ─► y           images, each with its statistics
//!  backward   dx ◄─ norm 1 ◄─ layer 1 ◄─ dz ◄─ layer 2 ◄─ dy       each gradient not yet through its norm
//! ```
//!
//! The crate `kernel_contract` says what each call takes and gives. A kernel has one result; where
//! several arrays lie in it, the next kernel gets the whole result and is told where to look, so that
//! no large array is ever copied. Such a result is declared as f32; images in it may be bf16, two in a place. Weights are read in the same way from the flat array of the state.

mod call;
mod features;
mod gradient;

use kernel_contract::{Layer, plan};
use xla::ElementType;

use crate::collective::Replicas;
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::tensors::{Place, Tensors};

use call::{Operands, part};
use features::Statistics;

pub use call::unwritten;
pub use features::Features;
pub use gradient::{BehindNorm, Gradient};

/// y = conv(relu(bn(x))) + skip, with the statistics of y over all `replicas`.
///
/// `x` `[N, H, W, C]`, `skip` and y `[N, h, w, O]`, all in the format of `x`.
///
/// # Errors
/// [`crate::GraphError::Kernel`] when no kernel computes this: the convolution is neither 1x1 nor 3x3, or
/// its channels are not a multiple of 16.
pub fn forward(
    params: &Tensors,
    bn: &BatchNorm,
    conv: &Conv,
    x: &Features,
    skip: Option<&Features>,
    replicas: Replicas,
) -> Result<Features> {
    let (y, _) = layer_forward(params, (bn, conv, false), x, skip, replicas)?;
    Ok(y)
}

/// y = pool(conv(relu(bn(x)))), with max pooling over 2x2 pixels, and the pixels that it chose: for
/// [`Gradient::Pooled`]. Otherwise as [`forward`].
///
/// # Errors
/// As [`forward`], and when there is a skip, or the convolution is not 3x3.
pub fn forward_pooled(
    params: &Tensors,
    bn: &BatchNorm,
    conv: &Conv,
    x: &Features,
    skip: Option<&Features>,
    replicas: Replicas,
) -> Result<(Features, Place)> {
    let (y, chosen_at) = layer_forward(params, (bn, conv, true), x, skip, replicas)?;
    let chosen = Place::new(&y.values.array, chosen_at);
    Ok((y, chosen))
}

/// A layer's result, and where in its array the pixels that pooling chose begin.
fn layer_forward(
    params: &Tensors,
    (bn, conv, pools): (&BatchNorm, &Conv, bool),
    x: &Features,
    skip: Option<&Features>,
    replicas: Replicas,
) -> Result<(Features, usize)> {
    let layer = layer(conv, x, pools);
    let len = layer.format.places(layer.result_values());
    let mut operands = Operands::new(&conv.name);
    let plan = plan::LayerForward {
        layer,
        norm: x.statistics.norm(params, bn, &mut operands)?,
        kernel: operands.add(
            "the kernel",
            params.home(&conv.kernel())?,
            layer.kernel_len(),
        )?,
        x: operands.add("x", &x.values, x.places())?,
        skip: match skip {
            Some(skip) => Some(operands.add("the skip", &skip.values, len)?),
            None => None,
        },
    };
    let builder = x.values.array.builder();
    let values = operands.call(builder, &plan, ElementType::F32, &[plan.result_len()])?;
    let channels = layer.outputs;
    let own = Statistics::within(&values, plan.moments_at(), channels);
    let y = Features {
        statistics: own.over(replicas, channels)?,
        values: Place::new(&values, 0),
        format: layer.format,
        dims: [
            layer.images,
            layer.result_height(),
            layer.result_width(),
            channels,
        ],
    };
    Ok((y, plan.chosen_at()))
}

/// The gradients of [`forward`] at `x`, or of [`forward_pooled`] where `dy` is [`Gradient::Pooled`]: those of the convolution's kernel and of the batch norm's
/// gamma and beta go into `gradients` (the last two as a block), the one of what `bn` made of `x` is
/// returned. The skip's gradient is `dy` itself.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    params: &Tensors,
    bn: &BatchNorm,
    conv: &Conv,
    x: &Features,
    dy: &Gradient,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<BehindNorm> {
    let layer = layer(conv, x, matches!(dy, Gradient::Pooled { .. }));
    let mut operands = Operands::new(&conv.name);
    let plan = plan::LayerBackward {
        layer,
        norm: x.statistics.norm(params, bn, &mut operands)?,
        kernel: operands.add(
            "the kernel",
            params.home(&conv.kernel())?,
            layer.kernel_len(),
        )?,
        x: operands.add("x", &x.values, x.places())?,
        dy: dy.describe(
            params,
            layer.format.places(layer.result_values()),
            &mut operands,
        )?,
    };
    let builder = x.values.array.builder();
    let dz = operands.call(builder, &plan, ElementType::F32, &[plan.result_len()])?;

    let kernel = Place::new(&dz, plan.kernel_at());
    gradients.insert(conv.kernel(), part(&kernel, layer.kernel_len())?);
    BehindNorm::new(bn, x, &dz).over(replicas, gradients)
}

/// The layer as the kernels know it.
fn layer(conv: &Conv, x: &Features, pools: bool) -> Layer {
    let [images, height, width, inputs] = x.dims;
    Layer {
        images,
        height,
        width,
        inputs,
        outputs: conv.outputs,
        side: conv.side,
        stride: conv.stride,
        pools,
        format: x.format,
    }
}
