//! Residual networks: what an [`Architecture`] says, as layers.

use std::fmt;
#[cfg(feature = "trace")]
use std::ops::Range;

use kernel_contract::LANES;

use crate::error::{GraphError, Result};
use crate::network::architecture::{Architecture, Downsampling};
use crate::network::block::Convolution;
use crate::network::precision::Precision;
use crate::network::unit::Unit;
use crate::network::version::{Common, Version};
use crate::ops::Lowering;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::dense::Dense;
use crate::table::{IMAGE_CHANNELS, TensorSpec};
#[cfg(feature = "trace")]
use {
    crate::arrays::cast,
    crate::collective::Replicas,
    crate::network::activation::{self, Activation},
    crate::network::fused,
    crate::network::parts::{self, Part, Traced},
    crate::network::unit::UnitSaved,
    crate::network::unit_loop::EqualUnits,
    crate::ops::{overlapping_pool, pool},
    crate::tensors::Tensors,
    xla::{PrimitiveType, XlaOp},
};

/// A network: stem, stages of units, batch norm, pooling and classifier.
#[derive(Clone, Debug)]
pub struct ResNet {
    pub version: Version,
    pub depth: usize,
    pub stem: Conv,
    /// Behind the stem, with a ReLU: in version 1.
    pub bn_in: Option<BatchNorm>,
    /// Whether max pooling over 3x3 pixels follows the stem.
    pub stem_pools: bool,
    pub units: Vec<Unit>,
    /// Units of each stage, with the one that pools.
    stages: Vec<usize>,
    /// The stem and so many stages keep their weights and statistics; see [`Self::with_frozen`].
    frozen: Option<usize>,
    /// Behind the last unit, with a ReLU: in version 2.
    pub bn_out: Option<BatchNorm>,
    pub dense: Dense,
    lowering: Lowering,
    /// Of activations and kernels; [`Self::new`] makes it f32.
    pub precision: Precision,
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

/// What the backward pass needs from the forward pass of the whole network.
#[cfg(feature = "trace")]
pub struct Saved<'a> {
    images: XlaOp,
    /// Of the stem, unless it is frozen.
    stem: Option<StemSaved>,
    units: UnitsSaved<'a>,
    bn_out: Option<Activation>,
    /// After the last ReLU, `[N, h, w, C]`.
    features: XlaOp,
    /// After pooling, `[N, C]`.
    pooled: XlaOp,
}

/// What the stem's backward pass needs from its forward pass.
#[cfg(feature = "trace")]
struct StemSaved {
    bn_in: Option<Activation>,
    /// If it pools.
    pool: Option<overlapping_pool::Saved>,
}

#[cfg(feature = "trace")]
enum UnitsSaved<'a> {
    Composed(Vec<Traced<'a, UnitSaved>>),
    Fused(Vec<Traced<'a, fused::UnitSaved>>),
}

impl ResNet {
    /// The network of `architecture`, for `classes` classes.
    ///
    /// # Errors
    /// [`GraphError::Empty`] when it has no stage, or a stage without units; [`GraphError::Shape`] when a shortcut
    /// without weights would have fewer channels than its input, or a network of version 1 would be on the CPU's kernels or
    /// have pooling for downsampling.
    pub fn new(architecture: &Architecture, classes: usize, lowering: Lowering) -> Result<Self> {
        check_version(architecture, lowering)?;
        let version = architecture.version;
        let common = Common { version, lowering };
        let stem = architecture.stem;
        let stem_shape = Convolution {
            side: stem.side,
            stride: stem.stride,
            inputs: IMAGE_CHANNELS,
            outputs: stem.filters,
        };
        let units = units(architecture, common)?;
        let stages = architecture.stages.iter();
        let outputs = stages.clone().last().map(|stage| stage.width);
        let outputs = outputs.ok_or_else(|| GraphError::Empty {
            what: "the network".to_owned(),
            of: "stage",
        })?;
        Ok(Self {
            version,
            depth: architecture.depth(),
            stem: common.conv("conv_in", stem_shape),
            bn_in: (version == Version::V1).then(|| common.batch_norm("bn_in", stem.filters)),
            stem_pools: stem.pools,
            units,
            stages: stages
                .map(|stage| match architecture.downsampling {
                    Downsampling::Unit | Downsampling::UnitOfZeros => stage.units,
                    Downsampling::Pool => stage.units + 1,
                })
                .collect(),
            frozen: None,
            bn_out: (version == Version::V2).then(|| common.batch_norm("bn_out", outputs)),
            dense: Dense {
                name: "dense".to_owned(),
                inputs: outputs,
                outputs: classes,
            },
            lowering,
            precision: Precision::F32,
            units_as: Units::Unrolled,
        })
    }

    /// The same network in another precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same network with its equal units traced as `units` says; [`Self::new`] unrolls them.
    pub fn with_units(self, units: Units) -> Self {
        Self {
            units_as: units,
            ..self
        }
    }

    /// The same network with its first layers frozen: the stem and so many stages, or nothing. Their weights and moving
    /// statistics stay, and training normalises by these statistics as inference does.
    pub fn with_frozen(self, stages: Option<usize>) -> Self {
        Self {
            frozen: stages,
            ..self
        }
    }

    /// The weights and moving statistics of the frozen layers.
    pub fn frozen_tensors(&self) -> Vec<TensorSpec> {
        let Some(stages) = self.frozen else {
            return Vec::new();
        };
        let units: usize = self.stages.iter().take(stages).sum();
        let mut tensors = self.stem_tensors();
        tensors.extend(self.units[..units].iter().flat_map(Unit::tensors));
        tensors
    }

    /// The first of the units' convolutions that the CPU's kernels do not compute, with the number of its channels that
    /// is no multiple of [`LANES`].
    pub fn beyond_kernels(&self) -> Option<(&Conv, usize)> {
        let layers = self.units.iter().flat_map(|unit| &unit.layers);
        layers.map(|layer| &layer.conv).find_map(|conv| {
            let channels = [conv.inputs, conv.outputs];
            let odd = channels
                .into_iter()
                .find(|count| !count.is_multiple_of(LANES));
            odd.map(|count| (conv, count))
        })
    }

    /// All weights and moving statistics, in the order in which data meets them.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.stem_tensors();
        tensors.extend(self.units.iter().flat_map(Unit::tensors));
        tensors.extend(self.bn_out.iter().flat_map(BatchNorm::tensors));
        tensors.extend(self.dense.tensors());
        tensors
    }

    fn stem_tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.stem.tensors();
        tensors.extend(self.bn_in.iter().flat_map(BatchNorm::tensors));
        tensors
    }
}

#[cfg(feature = "trace")]
impl ResNet {
    /// Logits `[N, classes]` (f32) of normalised `images` `[N, H, W, 3]` (f32) in training mode. The
    /// batch's statistics go into `batch`, under the names of the moving ones.
    pub fn forward(
        &self,
        params: &Tensors,
        images: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Saved<'_>)> {
        let images = cast(images, self.outside())?;
        let (x, stem) = match self.frozen {
            Some(_) => (self.infer_stem(params, &images)?, None),
            None => {
                let (x, saved) = self.forward_stem(params, &images, replicas, batch)?;
                (x, Some(saved))
            }
        };
        let frozen = self.frozen.unwrap_or(0).min(self.stages.len());
        let x = self.infer_units(self.parts(0..frozen), params, x)?;
        let parts = self.parts(frozen..self.stages.len());
        let (x, units) = self.forward_units(parts, params, x, replicas, batch)?;
        let (features, bn_out) = activate(self.bn_out.as_ref(), params, x, replicas, batch)?;
        let pooled = pool::forward(&features)?;
        let logits = self.dense.forward(params, &pooled)?;
        let saved = Saved {
            images,
            stem,
            units,
            bn_out,
            features,
            pooled,
        };
        Ok((logits, saved))
    }

    /// The type of activations outside the units. The kernels convert on their own what they take and give; XLA's CPU
    /// backend would convert around each operation.
    fn outside(&self) -> PrimitiveType {
        match self.lowering {
            Lowering::Kernels => PrimitiveType::F32,
            Lowering::Native | Lowering::Tpu | Lowering::Dots => self.precision.primitive(),
        }
    }

    /// The stem's images, and what their backward pass needs.
    fn forward_stem(
        &self,
        params: &Tensors,
        images: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, StemSaved)> {
        let x = self.stem.forward(params, images)?;
        let (x, bn_in) = activate(self.bn_in.as_ref(), params, x, replicas, batch)?;
        let (x, pool) = self.pool_stem(x)?;
        Ok((x, StemSaved { bn_in, pool }))
    }

    /// The maxima of `x` if the stem pools, else `x`.
    fn pool_stem(&self, x: XlaOp) -> Result<(XlaOp, Option<overlapping_pool::Saved>)> {
        if !self.stem_pools {
            return Ok((x, None));
        }
        let (x, saved) = overlapping_pool::forward(&x, self.stem.padding)?;
        Ok((x, Some(saved)))
    }

    /// [`Self::forward_stem`] with moving statistics.
    fn infer_stem(&self, params: &Tensors, images: &XlaOp) -> Result<XlaOp> {
        let x = self.stem.forward(params, images)?;
        let x = infer_activation(self.bn_in.as_ref(), params, x)?;
        Ok(self.pool_stem(x)?.0)
    }

    /// The units of these stages in the order in which data meets them, alone or as loops.
    fn parts(&self, stages: Range<usize>) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let before: usize = self.stages[..stages.start].iter().sum();
        let mut rest = &self.units[before..];
        for units in &self.stages[stages] {
            let (stage, behind) = rest.split_at(*units);
            rest = behind;
            let (first, equal) = stage.split_at(1);
            parts.extend(first.iter().map(Part::Unit));
            match self.units_as {
                Units::Loop if equal.len() > 1 => parts.push(Part::Loop(EqualUnits::new(equal))),
                _ => parts.extend(equal.iter().map(Part::Unit)),
            }
        }
        parts
    }

    fn forward_units<'a>(
        &self,
        parts: Vec<Part<'a>>,
        params: &Tensors,
        x: XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, UnitsSaved<'a>)> {
        if self.lowering == Lowering::Kernels && !parts.is_empty() {
            let (x, traced) = fused::forward(
                parts,
                params,
                &x,
                self.precision.primitive(),
                replicas,
                batch,
            )?;
            return Ok((x, UnitsSaved::Fused(traced)));
        }
        let (x, traced) = parts::forward(parts, params, x, replicas, batch)?;
        Ok((x, UnitsSaved::Composed(traced)))
    }

    /// The gradient of every weight that is not frozen, given `dlogits` `[N, classes]`.
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
        let dfeatures = cast(&dfeatures, precision)?;
        let dx = match (&self.bn_out, &saved.bn_out) {
            (Some(bn), Some(kept)) => kept.backward(bn, params, &dfeatures, replicas, gradients)?,
            _ => dfeatures,
        };
        let dx = match &saved.units {
            UnitsSaved::Composed(traced) => {
                parts::backward(traced, params, dx, replicas, gradients)?
            }
            UnitsSaved::Fused(traced) => fused::backward(
                traced,
                params,
                &dx,
                self.precision.primitive(),
                replicas,
                gradients,
            )?,
        };
        let Some(stem) = &saved.stem else {
            return Ok(());
        };
        let dx = match &stem.pool {
            Some(pool) => overlapping_pool::backward(pool, &dx)?,
            None => dx,
        };
        let dx = match (&self.bn_in, &stem.bn_in) {
            (Some(bn), Some(kept)) => kept.backward(bn, params, &dx, replicas, gradients)?,
            _ => dx,
        };
        self.stem.backward_kernel(&saved.images, &dx, gradients)
    }

    /// The units with moving statistics.
    fn infer_units(&self, parts: Vec<Part>, params: &Tensors, x: XlaOp) -> Result<XlaOp> {
        match self.lowering {
            _ if parts.is_empty() => Ok(x),
            Lowering::Kernels => fused::infer(None, parts, params, &x, self.precision.primitive()),
            Lowering::Native | Lowering::Tpu | Lowering::Dots => parts::infer(parts, params, x),
        }
    }

    /// Logits `[N, classes]` of normalised `images` `[N, H, W, 3]`, with moving statistics: inference.
    pub fn infer(&self, params: &Tensors, images: &XlaOp) -> Result<XlaOp> {
        let images = cast(images, self.outside())?;
        let parts = self.parts(0..self.stages.len());
        let is_plain = self.bn_in.is_none() && !self.stem_pools;
        let x = if self.lowering == Lowering::Kernels && is_plain {
            let inside = self.precision.primitive();
            fused::infer(Some(&self.stem), parts, params, &images, inside)?
        } else {
            let x = self.infer_stem(params, &images)?;
            self.infer_units(parts, params, x)?
        };
        let features = infer_activation(self.bn_out.as_ref(), params, x)?;
        let features = cast(&features, PrimitiveType::F32)?;
        self.dense.forward(params, &pool::forward(&features)?)
    }
}

/// relu(bn(x)) and what its backward pass needs, or `x` where there is no batch norm.
#[cfg(feature = "trace")]
fn activate(
    bn: Option<&BatchNorm>,
    params: &Tensors,
    x: XlaOp,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(XlaOp, Option<Activation>)> {
    let Some(bn) = bn else {
        return Ok((x, None));
    };
    let activation = Activation::forward(bn, params, &x, replicas, batch)?;
    Ok((activation.y.clone(), Some(activation)))
}

/// [`activate`] with moving statistics.
#[cfg(feature = "trace")]
fn infer_activation(bn: Option<&BatchNorm>, params: &Tensors, x: XlaOp) -> Result<XlaOp> {
    match bn {
        Some(bn) => activation::infer(bn, params, &x),
        None => Ok(x),
    }
}

/// Refuses what no network of version 1 has.
fn check_version(architecture: &Architecture, lowering: Lowering) -> Result<()> {
    let refused = |what, expected: &str, got: &str| GraphError::Shape {
        what,
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    match (architecture.version, architecture.downsampling, lowering) {
        (Version::V1, Downsampling::Pool, _) => Err(refused(
            "downsampling",
            "the first unit of each stage, in version 1",
            "pooling",
        )),
        (Version::V1, _, Lowering::Kernels) => Err(refused(
            "formulation",
            "native or dots: the CPU's kernels take batch norms before convolutions, and in version 1 they come behind them",
            "kernels",
        )),
        _ => Ok(()),
    }
}

/// The units of all stages.
fn units(architecture: &Architecture, common: Common) -> Result<Vec<Unit>> {
    let block = architecture.block;
    let mut units = Vec::new();
    let mut inputs = architecture.stem.filters;
    for (stage, shape) in architecture.stages.iter().enumerate() {
        if shape.units == 0 {
            return Err(GraphError::Empty {
                what: format!("stage {} of the network", stage + 1),
                of: "unit",
            });
        }
        if architecture.downsampling == Downsampling::Pool {
            let name = format!("stage{}/pool", stage + 1);
            units.push(Unit::pooling(&name, (inputs, shape.width), common));
            inputs = shape.width;
        }
        for unit in 0..shape.units {
            let name = format!("stage{}/unit{:02}", stage + 1, unit + 1);
            let stride = match (unit, architecture.downsampling) {
                (0, Downsampling::Unit | Downsampling::UnitOfZeros) => shape.stride,
                _ => 1,
            };
            let channels = (inputs, shape.width);
            units.push(match architecture.downsampling {
                Downsampling::UnitOfZeros => {
                    check_widens(&name, channels)?;
                    Unit::of_zeros(&name, block, channels, stride, common)
                }
                _ => Unit::new(&name, block, channels, stride, common),
            });
            inputs = shape.width;
        }
    }
    Ok(units)
}

/// Refuses a shortcut without weights that would have to drop channels.
fn check_widens(unit: &str, (inputs, outputs): (usize, usize)) -> Result<()> {
    if inputs <= outputs {
        return Ok(());
    }
    Err(GraphError::Shape {
        what: "shortcuts",
        expected: format!("at least {inputs} channels in {unit}, since they have no weights"),
        got: outputs.to_string(),
    })
}
