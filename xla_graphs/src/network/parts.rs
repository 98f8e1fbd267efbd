//! The units of a network in the order in which data meets them, alone or as loops, composed of
//! XLA's operations.

use std::slice;

use xla::XlaOp;

use crate::collective::Replicas;
use crate::error::Result;
use crate::network::unit::{Unit, UnitSaved};
use crate::network::unit_loop::{EqualUnits, Kept};
use crate::tensors::Tensors;

/// Units that are traced in one piece.
pub(crate) enum Part<'a> {
    Unit(&'a Unit),
    Loop(EqualUnits<'a>),
}

impl<'a> Part<'a> {
    /// The unit, or the first of the loop.
    pub fn unit(&self) -> &'a Unit {
        match self {
            Self::Unit(unit) => unit,
            Self::Loop(units) => units.unit(),
        }
    }

    /// All of its units.
    pub fn units(&self) -> &'a [Unit] {
        match self {
            Self::Unit(unit) => slice::from_ref(unit),
            Self::Loop(units) => units.all(),
        }
    }
}

/// A traced [`Part`], with what its backward pass needs: `S` of a unit.
pub(crate) enum Traced<'a, S> {
    Unit(&'a Unit, S),
    Loop(EqualUnits<'a>, Kept),
}

/// Through all `parts`: `x` `[N, H, W, C]` to the input of the last batch norm.
pub(crate) fn forward<'a>(
    parts: Vec<Part<'a>>,
    params: &Tensors,
    mut x: XlaOp,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(XlaOp, Vec<Traced<'a, UnitSaved>>)> {
    let mut traced = Vec::new();
    for part in parts {
        match part {
            Part::Unit(unit) => {
                let saved;
                (x, saved) = unit.forward(params, &x, replicas, batch)?;
                traced.push(Traced::Unit(unit, saved));
            }
            Part::Loop(units) => {
                let kept;
                (x, kept) = units.forward(params, &x, replicas, batch)?;
                traced.push(Traced::Loop(units, kept));
            }
        }
    }
    Ok((x, traced))
}

/// The backward pass through [`forward`], from the gradient of its result to dx.
pub(crate) fn backward(
    traced: &[Traced<UnitSaved>],
    params: &Tensors,
    mut dx: XlaOp,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    for part in traced.iter().rev() {
        dx = match part {
            Traced::Unit(unit, saved) => unit.backward(params, saved, &dx, replicas, gradients)?,
            Traced::Loop(units, kept) => units.backward(params, kept, &dx, replicas, gradients)?,
        };
    }
    Ok(dx)
}

/// [`forward`] with moving statistics.
pub(crate) fn infer(parts: Vec<Part>, params: &Tensors, mut x: XlaOp) -> Result<XlaOp> {
    for part in parts {
        x = match part {
            Part::Unit(unit) => unit.infer(params, &x)?,
            Part::Loop(units) => units.infer(params, &x)?,
        };
    }
    Ok(x)
}
