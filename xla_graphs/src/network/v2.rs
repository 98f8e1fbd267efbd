//! A unit of version 2: BN-ReLU-convolution, several times, and a shortcut.
//!
//! ```text
//!  x ─┬─► bn ─► relu ─┬─► conv ─► bn ─► relu ─► conv ─► + ─► y
//!     └─ or from here ┴─► conv ─────────────────────────┘
//! ```

use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::network::activation::{self, Activation};
use crate::network::kernel_sums::{self, Reader};
use crate::network::unit::{Shortcut, Unit};
use crate::ops::max_pool;
use crate::tensors::Tensors;

/// What a unit's backward pass needs from its forward pass.
pub(crate) struct Saved {
    /// Of each layer.
    layers: Vec<Activation>,
    pool: Option<max_pool::Saved>,
}

impl Saved {
    /// The inputs of the layers.
    pub fn kept(&self) -> Vec<&XlaOp> {
        self.layers.iter().map(|layer| &layer.bn.x).collect()
    }
}

/// y = conv(a) + shortcut, where a is the last layer's activation, and its maxima if the unit
/// pools; each layer before it gives the next layer's input.
pub(crate) fn forward(
    unit: &Unit,
    params: &Tensors,
    x: &XlaOp,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(XlaOp, Saved)> {
    let (last, inner) = unit.split();
    let mut layers = Vec::new();
    let mut h = x.clone();
    for layer in inner {
        let kept = Activation::forward(&layer.bn, params, &h, replicas, batch)?;
        h = layer.conv.forward(params, &kept.y)?;
        layers.push(kept);
    }
    layers.push(Activation::forward(&last.bn, params, &h, replicas, batch)?);
    let y = last.conv.forward(params, &layers[inner.len()].y)?;
    let y = add_shortcut(unit, params, x, &layers[0].y, y)?;
    let (y, pool) = pool(unit, y)?;
    Ok((y, Saved { layers, pool }))
}

/// `y` and the shortcut of the unit's input `x`, whose first activation is `a`.
fn add_shortcut(unit: &Unit, params: &Tensors, x: &XlaOp, a: &XlaOp, y: XlaOp) -> Result<XlaOp> {
    Ok(match &unit.shortcut {
        Shortcut::Projection(projection) => (y + projection.forward(params, a)?)?,
        Shortcut::Identity => (y + x)?,
        Shortcut::Zeros(widen) => (y + widen.forward(x)?)?,
        Shortcut::None => y,
    })
}

/// The maxima of `y` if the unit pools, else `y`.
fn pool(unit: &Unit, y: XlaOp) -> Result<(XlaOp, Option<max_pool::Saved>)> {
    if !unit.pools {
        return Ok((y, None));
    }
    let (pooled, saved) = max_pool::forward(&y)?;
    Ok((pooled, Some(saved)))
}

/// What [`forward`] saved, from the `inputs` of the layers and the batch's statistics: of a unit
/// that does not pool.
pub(crate) fn saved(
    unit: &Unit,
    params: &Tensors,
    inputs: &[XlaOp],
    replicas: Replicas,
    batch: &Tensors,
) -> Result<Saved> {
    let pairs = unit.layers.iter().zip(inputs);
    let layers = pairs.map(|(layer, x)| Activation::again(&layer.bn, params, x, replicas, batch));
    Ok(Saved {
        layers: layers.collect::<Result<_>>()?,
        pool: None,
    })
}

/// The chain rule through [`forward`], from `dy` to dx; both branches' gradients add up
/// where they met: at the first activation, or at the input for an identity shortcut.
pub(crate) fn backward(
    unit: &Unit,
    params: &Tensors,
    saved: &Saved,
    dy: &XlaOp,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    let dy = &before_pool(&saved.pool, dy)?;
    let mut dx = dy.clone();
    let mut dx_again = dy.clone();
    for (index, (layer, saved)) in unit.layers.iter().zip(&saved.layers).enumerate().rev() {
        if index == 0 && kernel_sums::suit(&layer.conv) {
            let reader = Reader {
                conv: &layer.conv,
                dy: &dx,
                dy_again: &dx_again,
            };
            let other = unit.shortcut.projection().map(|conv| Reader {
                conv,
                dy,
                dy_again: dy,
            });
            let readers = (reader, other);
            dx = kernel_sums::backward(saved, &layer.bn, params, readers, replicas, gradients)?;
            break;
        }
        let mut da = layer.conv.backward(params, &saved.y, &dx, gradients)?;
        if let (0, Shortcut::Projection(projection)) = (index, &unit.shortcut) {
            da = (da + projection.backward(params, &saved.y, dy, gradients)?)?;
        }
        let input = saved.input_gradient(&layer.bn, params, &da, replicas, gradients)?;
        dx = input.dx()?;
        if index == 1 && kernel_sums::suit(&unit.layers[0].conv) {
            dx_again = input.dx_again()?;
        }
    }
    match &unit.shortcut {
        Shortcut::Identity => Ok((dx + dy)?),
        Shortcut::Zeros(widen) => {
            let skipped = widen.backward(&dx.dims()?, dy)?;
            Ok((dx + skipped)?)
        }
        Shortcut::Projection(_) | Shortcut::None => Ok(dx),
    }
}

/// [`forward`] with moving statistics.
pub(crate) fn infer(unit: &Unit, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
    let (last, inner) = unit.split();
    let first_activation = activation::infer(&unit.layers[0].bn, params, x)?;
    let mut a = first_activation.clone();
    for (layer, next) in inner.iter().zip(&unit.layers[1..]) {
        a = activation::infer(&next.bn, params, &layer.conv.forward(params, &a)?)?;
    }
    let y = last.conv.forward(params, &a)?;
    let y = add_shortcut(unit, params, x, &first_activation, y)?;
    Ok(pool(unit, y)?.0)
}

/// The gradient of what went into the pooling that saved `pool`, from `dy`, the gradient of its result;
/// without pooling, `dy` itself.
fn before_pool(pool: &Option<max_pool::Saved>, dy: &XlaOp) -> Result<XlaOp> {
    match pool {
        Some(saved) => max_pool::backward(saved, dy),
        None => Ok(dy.clone()),
    }
}
