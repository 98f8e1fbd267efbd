//! BN-ReLU-convolution as calls of the kernels made for XLA's CPU backend (crate `cpu_kernels`).
//!
//! ```text
//!  forward    x ─► layer 1 ─► h ─► layer 2 ─► y           images, each with its statistics
//!  inference  x ─► all layers ─► y
//!  backward   dx ◄─ norm 1 ◄─ layer 1 ◄─ dz ◄─ layer 2 ◄─ dy       each gradient not yet through its norm
//!                     ▲                                         a skip's is added by the 1x1 layer in front, or alone
//!                    skip
//! ```
//!
//! The crate `kernel_contract` says what each call takes and gives. A kernel gets whole arrays and is told where to look,
//! so that no large array is ever copied: weights are read straight from the flat array of the state, and in a loop images
//! from the array that has a row for each round.

mod call;
mod features;
mod gradient;
mod inference;
mod typed;
mod wire;

use kernel_contract::plan::{self, Row};
use kernel_contract::{Format, Layer};
use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::tensors::{Place, Tensors};

use call::Operands;
use features::Statistics;

pub use call::unwritten;
pub use features::Features;
pub use gradient::{BehindNorm, Gradient, Junction};
pub use inference::{Inference, Skip, Value};
pub use typed::complete;

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
    let (y, _) = layer_forward(params, (bn, conv, false), x, skip, None, replicas)?;
    Ok(y)
}

/// [`forward`], with y in the place of the row at `row`: y lies in all of the array that `row` is in. A skip must lie in
/// that array too, in another row.
///
/// # Errors
/// As [`forward`].
pub fn forward_into(
    params: &Tensors,
    (bn, conv): (&BatchNorm, &Conv),
    x: &Features,
    skip: Option<&Features>,
    row: &Place,
    replicas: Replicas,
) -> Result<Features> {
    let layer = (bn, conv, false);
    let (y, _) = layer_forward(params, layer, x, skip, Some(row), replicas)?;
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
) -> Result<(Features, XlaOp)> {
    let (y, mut more) = layer_forward(params, (bn, conv, true), x, skip, None, replicas)?;
    // A layer that pools has one more result.
    Ok((y, more.remove(0)))
}

/// A layer's result, and the results besides the images and their moments.
fn layer_forward(
    params: &Tensors,
    (bn, conv, pools): (&BatchNorm, &Conv, bool),
    x: &Features,
    skip: Option<&Features>,
    row: Option<&Place>,
    replicas: Replicas,
) -> Result<(Features, Vec<XlaOp>)> {
    let layer = layer(conv, x, pools);
    let len = layer.result_values();
    let mut operands = Operands::new(&conv.name);
    let plan = plan::LayerForward {
        layer,
        norm: x.statistics.norm(params, bn, &mut operands)?,
        kernel: operands.add(
            "the kernel",
            params.home(&conv.kernel())?,
            layer.kernel_len(),
        )?,
        x: operands.add("x", &x.values, x.len())?,
        row: match row {
            Some(row) => Some(Row {
                start: operands.add("the row of y", row, len)?,
                rows: row.array.dims()?[0],
            }),
            None => None,
        },
        skip: None,
    };
    let plan = plan::LayerForward {
        skip: match (skip, plan.row) {
            (None, _) => None,
            (Some(skip), None) => Some(operands.add("the skip", &skip.values, len)?),
            // Once more as an operand, the array would have to be copied before it is written to.
            (Some(skip), Some(row)) => {
                Some(operands.beside(row.start, "the skip", &skip.values, len)?)
            }
        },
        ..plan
    };
    let builder = x.values.array.builder();
    let mut results = operands.call(builder, &plan)?;
    let more = results.split_off(2);
    let channels = layer.outputs;
    let own = Statistics::of(&results[1], channels);
    let y = Features {
        statistics: own.over(replicas, channels)?,
        values: Place {
            array: results[0].clone(),
            ..row.map_or_else(|| Place::new(&results[0], 0), Place::clone)
        },
        format: layer.format,
        dims: layer.result_dims(),
    };
    Ok((y, more))
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
    let (dz, _) = layer_backward(params, (bn, conv), x, dy, replicas, gradients)?;
    Ok(dz)
}

/// [`backward`] from what meets at a layer's result; gives the gradient of the result besides.
///
/// # Errors
/// As [`forward`].
pub fn backward_from_junction(
    params: &Tensors,
    (bn, conv): (&BatchNorm, &Conv),
    x: &Features,
    junction: Junction,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<(BehindNorm, XlaOp)> {
    let layer = (bn, conv);
    if conv.side == 1 {
        let dy = Gradient::Junction(junction);
        let (dz, mut more) = layer_backward(params, layer, x, &dy, replicas, gradients)?;
        // At a junction there is one more result.
        return Ok((dz, more.remove(0)));
    }
    let sum = junction.sum(params)?;
    let dy = Gradient::Plain(sum.clone());
    let (dz, _) = layer_backward(params, layer, x, &dy, replicas, gradients)?;
    Ok((dz, sum))
}

/// A layer's gradient, and the results besides it, its sums and the kernel's gradient.
fn layer_backward(
    params: &Tensors,
    (bn, conv): (&BatchNorm, &Conv),
    x: &Features,
    dy: &Gradient,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<(BehindNorm, Vec<XlaOp>)> {
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
        x: operands.add("x", &x.values, x.len())?,
        dy: dy.describe(params, layer.result_values(), &mut operands)?,
    };
    let builder = x.values.array.builder();
    let mut more = operands.call(builder, &plan)?;
    let results = more.split_off(more.len() - 3);
    gradients.insert(conv.kernel(), results[2].clone());
    let dz = BehindNorm::new(bn, x, &results[0], &results[1]).over(replicas, gradients)?;
    Ok((dz, more))
}

/// [`layer_of`] images `x`.
fn layer(conv: &Conv, x: &Features, pools: bool) -> Layer {
    layer_of(conv, x.dims, x.format, pools)
}

/// The layer as the kernels know it, of images `dims` `[N, H, W, C]` in `format`.
fn layer_of(conv: &Conv, dims: [usize; 4], format: Format, pools: bool) -> Layer {
    let [images, height, width, inputs] = dims;
    Layer {
        images,
        height,
        width,
        inputs,
        outputs: conv.outputs,
        side: conv.side,
        stride: conv.stride,
        pools,
        format,
    }
}
