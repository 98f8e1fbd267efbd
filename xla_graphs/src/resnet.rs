//! Pre-activation residual networks with bottleneck units (He et al. 2016, "Identity Mappings in
//! Deep Residual Networks"), as the Keras tutorial builds them for 32x32 images.

use std::fmt;

use xla::{PrimitiveType, XlaOp};

use crate::collective::Replicas;
use crate::fused;
use crate::layout::TensorSpec;
use crate::ops::batch_norm::{self, BatchNorm};
use crate::ops::conv::Conv;
use crate::ops::dense::Dense;
use crate::ops::{Lowering, cast, pool, relu};
use crate::tensors::Tensors;
pub use crate::unit::Unit;
use crate::unit::{UnitSaved, batch_norm, conv};
use crate::unit_loop::{EqualUnits, Kept};
use crate::{GraphError, Result};

/// Colour channels of an image.
pub const IMAGE_CHANNELS: usize = 3;
/// Filters of the 3x3 stem.
const STEM_FILTERS: usize = 16;
/// Output filters of the units of each stage; a unit's inner width is a quarter of it.
const STAGE_FILTERS: [usize; 3] = [64, 128, 256];

/// A network: stem, three stages of equal units, batch norm, pooling and classifier.
#[derive(Clone, Debug)]
pub struct ResNet {
    pub depth: usize,
    pub stem: Conv,
    pub units: Vec<Unit>,
    pub bn_out: BatchNorm,
    pub dense: Dense,
    lowering: Lowering,
    /// How equal units are traced.
    pub units_as: Units,
}

/// How the equal units of a stage, all but its first, are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// One after the other.
    Unrolled,
    /// As a loop over one of them, see `unit_loop.rs`.
    Loop,
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Unrolled => "unrolled",
            Self::Loop => "loop",
        })
    }
}

/// The n of `depth` = 9n + 2.
///
/// # Errors
/// [`GraphError::Depth`] when there is no such n above 0.
pub fn units_per_stage(depth: usize) -> Result<usize> {
    if depth < 11 || !(depth - 2).is_multiple_of(9) {
        return Err(GraphError::Depth { got: depth });
    }
    Ok((depth - 2) / 9)
}

/// What the backward pass needs from the forward pass of the whole network.
pub struct Saved<'a> {
    images: XlaOp,
    units: UnitsSaved<'a>,
    bn_out: batch_norm::Saved,
    /// After the last ReLU, `[N, h, w, C]`.
    features: XlaOp,
    /// After pooling, `[N, C]`.
    pooled: XlaOp,
}

enum UnitsSaved<'a> {
    Composed(Vec<Traced<'a, UnitSaved>>),
    Fused(Vec<Traced<'a, fused::UnitSaved>>),
}

/// Units that are traced in one piece.
pub(crate) enum Part<'a> {
    Unit(&'a Unit),
    Loop(EqualUnits<'a>),
}

/// A traced [`Part`], with what its backward pass needs.
pub(crate) enum Traced<'a, S> {
    Unit(&'a Unit, S),
    Loop(EqualUnits<'a>, Kept),
}

impl ResNet {
    /// The network with `depth` = 9n + 2 layers, n units a stage, for `classes` classes.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is no such n.
    pub fn new(depth: usize, classes: usize, lowering: Lowering) -> Result<Self> {
        let units_per_stage = units_per_stage(depth)?;
        let mut units = Vec::with_capacity(3 * units_per_stage);
        let mut inputs = STEM_FILTERS;
        for (stage, &outputs) in STAGE_FILTERS.iter().enumerate() {
            for unit in 0..units_per_stage {
                let name = format!("stage{}/unit{:02}", stage + 1, unit + 1);
                let stride = if stage > 0 && unit == 0 { 2 } else { 1 };
                units.push(Unit::new(&name, inputs, outputs, stride, lowering));
                inputs = outputs;
            }
        }
        Ok(Self {
            depth,
            stem: conv("conv_in", 3, 1, (IMAGE_CHANNELS, STEM_FILTERS), lowering),
            units,
            bn_out: batch_norm("bn_out", inputs, lowering),
            dense: Dense {
                name: "dense".to_owned(),
                inputs,
                outputs: classes,
            },
            lowering,
            units_as: Units::Unrolled,
        })
    }

    /// The same network with its equal units traced as `units` says; [`Self::new`] unrolls them.
    pub fn with_units(self, units: Units) -> Self {
        Self {
            units_as: units,
            ..self
        }
    }

    /// All weights and moving statistics, in the order in which data meets them.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.stem.tensors();
        tensors.extend(self.units.iter().flat_map(Unit::tensors));
        tensors.extend(self.bn_out.tensors());
        tensors.extend(self.dense.tensors());
        tensors
    }

    /// Logits `[N, classes]` (f32) of normalised `images` `[N, H, W, 3]` in training mode. The precision
    /// of `images` is the precision of all activations. The batch's statistics go into `batch`, under
    /// the names of the moving ones.
    pub fn forward(
        &self,
        params: &Tensors,
        images: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Saved<'_>)> {
        let x = self.stem.forward(params, images)?;
        let (x, units) = self.forward_units(params, x, replicas, batch)?;
        let (y, bn_out) = self.bn_out.forward(params, &x, replicas, batch)?;
        let features = relu::forward(&y)?;
        let pooled = pool::forward(&features)?;
        let logits = self.dense.forward(params, &pooled)?;
        let saved = Saved {
            images: images.clone(),
            units,
            bn_out,
            features,
            pooled,
        };
        Ok((logits, saved))
    }

    /// The units in the order in which data meets them, alone or as loops.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        for stage in self.units.chunks(self.units.len() / STAGE_FILTERS.len()) {
            let (first, equal) = stage.split_at(1);
            parts.extend(first.iter().map(Part::Unit));
            match self.units_as {
                Units::Loop if equal.len() > 1 => parts.push(Part::Loop(EqualUnits::new(equal))),
                _ => parts.extend(equal.iter().map(Part::Unit)),
            }
        }
        parts
    }

    fn forward_units(
        &self,
        params: &Tensors,
        mut x: XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitsSaved<'_>)> {
        if self.lowering == Lowering::Kernels {
            let (x, units) = self.fused_forward(params, &x, replicas, batch)?;
            return Ok((x, UnitsSaved::Fused(units)));
        }
        let mut traced = Vec::new();
        for part in self.parts() {
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
        Ok((x, UnitsSaved::Composed(traced)))
    }

    /// The gradient of every weight, given `dlogits` `[N, classes]`.
    pub fn backward(
        &self,
        params: &Tensors,
        saved: &Saved,
        dlogits: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<()> {
        let dpooled = self
            .dense
            .backward(params, &saved.pooled, dlogits, gradients)?;
        let precision = saved.features.primitive_type()?;
        let dfeatures = pool::backward(&saved.features.dims()?, &dpooled)?;
        let dy = relu::backward(&saved.features, &cast(&dfeatures, precision)?)?;
        let dx = self
            .bn_out
            .backward(params, &saved.bn_out, &dy, replicas, gradients)?;
        let dx = match &saved.units {
            UnitsSaved::Composed(traced) => {
                backward_units(traced, params, dx, replicas, gradients)?
            }
            UnitsSaved::Fused(traced) => {
                fused::backward_units(traced, params, dx, replicas, gradients)?
            }
        };
        self.stem.backward_kernel(&saved.images, &dx, gradients)
    }

    /// Logits `[N, classes]` of normalised `images` `[N, H, W, 3]`, with moving statistics: inference.
    pub fn infer(&self, params: &Tensors, images: &XlaOp) -> Result<XlaOp> {
        let x = self.stem.forward(params, images)?;
        let x = self.infer_units(params, x)?;
        let features = relu::forward(&self.bn_out.infer(params, &x)?)?;
        let features = cast(&features, PrimitiveType::F32)?;
        self.dense.forward(params, &pool::forward(&features)?)
    }

    fn infer_units(&self, params: &Tensors, mut x: XlaOp) -> Result<XlaOp> {
        if self.lowering == Lowering::Kernels {
            return self.fused_infer(params, &x);
        }
        for part in self.parts() {
            x = match part {
                Part::Unit(unit) => unit.infer(params, &x)?,
                Part::Loop(units) => units.infer(params, &x)?,
            };
        }
        Ok(x)
    }
}

/// The way back through the units of `traced`, from the gradient of their output to that of their
/// input.
fn backward_units(
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
