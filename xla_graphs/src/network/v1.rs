//! A unit of version 1: convolution-BN-ReLU, several times, and a shortcut before the last ReLU.
//!
//! ```text
//!  x ─┬─► conv ─► bn ─► relu ─► conv ─► bn ─► + ─► relu ─► y
//!     └─ itself, or ──────────► conv ─► bn ───┘
//! ```

use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::network::activation;
use crate::network::unit::{Shortcut, Unit};
use crate::ops::{batch_norm, relu};
use crate::tensors::Tensors;

/// What a unit's backward pass needs from its forward pass.
pub(crate) struct Saved {
    /// Of each layer; but for the first, which gets the unit's, they come from a ReLU.
    inputs: Vec<XlaOp>,
    /// Of each layer.
    norms: Vec<batch_norm::Saved>,
    shortcut_norm: Option<batch_norm::Saved>,
    y: XlaOp,
}

impl Saved {
    /// The unit's input, and the output of each layer's convolution.
    pub fn kept(&self) -> Vec<&XlaOp> {
        let outputs = self.norms.iter().map(|norm| &norm.x);
        self.inputs.iter().take(1).chain(outputs).collect()
    }
}

/// y = relu(bn(conv(a)) + shortcut), where a is what the layers before the last give, each relu(bn(conv)) of the one before
/// it.
pub(crate) fn forward(
    unit: &Unit,
    params: &Tensors,
    x: &XlaOp,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(XlaOp, Saved)> {
    let mut inputs = vec![x.clone()];
    let mut norms = Vec::new();
    let mut z = x.clone();
    for (index, layer) in unit.layers.iter().enumerate() {
        if index > 0 {
            inputs.push(relu::forward(&z)?);
        }
        let h = layer.conv.forward(params, &inputs[index])?;
        let norm;
        (z, norm) = layer.bn.forward(params, &h, replicas, batch)?;
        norms.push(norm);
    }
    let (skipped, shortcut_norm) = forward_shortcut(unit, params, x, replicas, batch)?;
    let y = relu::forward(&added(z, skipped)?)?;
    let saved = Saved {
        inputs,
        norms,
        shortcut_norm,
        y: y.clone(),
    };
    Ok((y, saved))
}

/// The sum of both branches.
fn added(z: XlaOp, skipped: Option<XlaOp>) -> Result<XlaOp> {
    match skipped {
        Some(skipped) => Ok((z + skipped)?),
        None => Ok(z),
    }
}

/// What the shortcut adds, if there is one, and what its batch norm saved, if it has one.
fn forward_shortcut(
    unit: &Unit,
    params: &Tensors,
    x: &XlaOp,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(Option<XlaOp>, Option<batch_norm::Saved>)> {
    let skipped = before_shortcut_norm(unit, params, x)?;
    match (&unit.shortcut_bn, skipped) {
        (Some(bn), Some(skipped)) => {
            let (y, saved) = bn.forward(params, &skipped, replicas, batch)?;
            Ok((Some(y), Some(saved)))
        }
        (_, skipped) => Ok((skipped, None)),
    }
}

fn before_shortcut_norm(unit: &Unit, params: &Tensors, x: &XlaOp) -> Result<Option<XlaOp>> {
    Ok(match &unit.shortcut {
        Shortcut::Projection(projection) => Some(projection.forward(params, x)?),
        Shortcut::Identity => Some(x.clone()),
        Shortcut::Zeros(widen) => Some(widen.forward(x)?),
        Shortcut::None => None,
    })
}

/// What [`forward`] saved, from the unit's input and the convolutions' outputs, which were `kept`, and the batch's
/// statistics: of a unit whose shortcut is its input.
pub(crate) fn saved(
    unit: &Unit,
    params: &Tensors,
    kept: &[XlaOp],
    replicas: Replicas,
    batch: &Tensors,
) -> Result<Saved> {
    let x = &kept[0];
    let mut inputs = vec![x.clone()];
    let mut norms = Vec::new();
    let mut z = x.clone();
    for (index, layer) in unit.layers.iter().enumerate() {
        if index > 0 {
            inputs.push(relu::forward(&z)?);
        }
        let norm;
        (z, norm) = (layer.bn).normalise(params, &kept[index + 1], replicas, batch)?;
        norms.push(norm);
    }
    Ok(Saved {
        inputs,
        norms,
        shortcut_norm: None,
        y: relu::forward(&(z + x)?)?,
    })
}

/// The chain rule through [`forward`], from `dy` to dx; both branches get the sum's gradient, and their own add up at the
/// input.
pub(crate) fn backward(
    unit: &Unit,
    params: &Tensors,
    saved: &Saved,
    dy: &XlaOp,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    let dsum = relu::backward(&saved.y, dy)?;
    let mut dx = dsum.clone();
    for (index, layer) in unit.layers.iter().enumerate().rev() {
        let (input, norm) = (&saved.inputs[index], &saved.norms[index]);
        let dh = (layer.bn).backward(params, norm, &dx, replicas, gradients)?;
        dx = layer.conv.backward(params, input, &dh, gradients)?;
        if index > 0 {
            dx = relu::backward(input, &dx)?;
        }
    }
    let before_norm = match (&unit.shortcut_bn, &saved.shortcut_norm) {
        (Some(bn), Some(norm)) => bn.backward(params, norm, &dsum, replicas, gradients)?,
        _ => dsum,
    };
    match &unit.shortcut {
        Shortcut::Projection(projection) => {
            let x = &saved.inputs[0];
            Ok((dx + projection.backward(params, x, &before_norm, gradients)?)?)
        }
        Shortcut::Identity => Ok((dx + before_norm)?),
        Shortcut::Zeros(widen) => {
            let skipped = widen.backward(&dx.dims()?, &before_norm)?;
            Ok((dx + skipped)?)
        }
        Shortcut::None => Ok(dx),
    }
}

/// [`forward`] with moving statistics.
pub(crate) fn infer(unit: &Unit, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
    let (last, inner) = unit.split();
    let mut a = x.clone();
    for layer in inner {
        a = activation::infer(&layer.bn, params, &layer.conv.forward(params, &a)?)?;
    }
    let z = last.bn.infer(params, &last.conv.forward(params, &a)?)?;
    let skipped = before_shortcut_norm(unit, params, x)?;
    let skipped = match (&unit.shortcut_bn, skipped) {
        (Some(bn), Some(skipped)) => Some(bn.infer(params, &skipped)?),
        (_, skipped) => skipped,
    };
    relu::forward(&added(z, skipped)?)
}
