//! The shape of a network: the stem, and how many units of which kind and width.

use crate::error::{GraphError, Result};
use crate::network::block::Block;
use crate::network::version::Version;

/// A residual network: stem, stages of units, batch norm, pooling and classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    pub version: Version,
    pub stem: Stem,
    pub block: Block,
    pub stages: Vec<Stage>,
    pub downsampling: Downsampling,
}

/// How the images get smaller, and their channels more, at the beginning of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downsampling {
    /// The first unit of the stage does it, with its stride and a projection for a shortcut.
    Unit,
    /// The first unit of the stage does it, with its stride and a shortcut without weights: every stride-th pixel, and
    /// zeros for the channels that are new ("option A" of He et al. 2016, "Deep Residual Learning").
    UnitOfZeros,
    /// A 3x3 convolution and max pooling over 2x2 pixels, without a shortcut, come before the stage's units.
    Pool,
}

/// The convolution of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stem {
    /// Side of the square kernel.
    pub side: usize,
    pub stride: usize,
    pub filters: usize,
    /// Whether max pooling over 3x3 pixels, with stride 2, follows.
    pub pools: bool,
}

impl Stem {
    /// 3x3 with stride 1: of networks for 32x32 images.
    pub const fn small(filters: usize) -> Self {
        Self {
            side: 3,
            stride: 1,
            filters,
            pools: false,
        }
    }

    /// 7x7 with stride 2 and max pooling: of networks for ImageNet's images.
    pub const IMAGENET: Self = Self {
        side: 7,
        stride: 2,
        filters: 64,
        pools: true,
    };
}

/// Units that give images of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub units: usize,
    /// Output channels of each unit.
    pub width: usize,
    /// Of the first unit; 1 where pooling comes before it.
    pub stride: usize,
}

impl Architecture {
    /// The pre-activation network with bottleneck units (He et al. 2016, "Identity Mappings in Deep
    /// Residual Networks") of `depth` = 9n + 2 layers, n units a stage, as the Keras tutorial builds
    /// it for 32x32 images.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is no such n above 0.
    pub fn resnet_v2(depth: usize) -> Result<Self> {
        if depth < 11 || !(depth - 2).is_multiple_of(9) {
            return Err(GraphError::Depth { got: depth });
        }
        let units = (depth - 2) / 9;
        let stage = |width, stride| Stage {
            units,
            width,
            stride,
        };
        Ok(Self {
            version: Version::V2,
            stem: Stem::small(16),
            block: Block::Bottleneck,
            stages: vec![stage(64, 1), stage(128, 2), stage(256, 2)],
            downsampling: Downsampling::Unit,
        })
    }

    /// A wide and shallow network for short runs on 32x32 images: three stages that each begin with a
    /// convolution and max pooling, and go on with `units` residual units of one convolution.
    pub fn fast(widths: [usize; 3], units: usize) -> Self {
        let stage = |width| Stage {
            units,
            width,
            stride: 1,
        };
        Self {
            version: Version::V2,
            stem: Stem::small(32),
            block: Block::Single,
            stages: widths.map(stage).to_vec(),
            downsampling: Downsampling::Pool,
        }
    }

    /// Stages of units of `block`, as many as `units` and `widths` have numbers; all but the first halve the images.
    ///
    /// # Errors
    /// [`GraphError::Shape`] when the two lists are not of the same length, or a width does not suit the block.
    pub fn of_stages(
        stem: Stem,
        block: Block,
        units: &[usize],
        widths: &[usize],
        downsampling: Downsampling,
    ) -> Result<Self> {
        if units.len() != widths.len() {
            return Err(GraphError::Shape {
                what: "stages",
                expected: format!("{} widths, one for each number of units", units.len()),
                got: widths.len().to_string(),
            });
        }
        if let Some(width) = widths
            .iter()
            .find(|width| !width.is_multiple_of(block.divisor()))
        {
            return Err(GraphError::Shape {
                what: "widths",
                expected: format!("multiples of {} in a {block} network", block.divisor()),
                got: width.to_string(),
            });
        }
        let stages = units.iter().zip(widths).enumerate();
        let stages = stages.map(|(index, (&units, &width))| Stage {
            units,
            width,
            stride: if index == 0 { 1 } else { 2 },
        });
        Ok(Self {
            version: Version::V2,
            stem,
            block,
            stages: stages.collect(),
            downsampling,
        })
    }

    /// A network of version 1, as torchvision builds them: a projection wherever the shape changes, and behind the stem as
    /// many channels as the 3x3 convolutions of the first stage have.
    ///
    /// # Errors
    /// As [`Self::of_stages`].
    pub fn v1(block: Block, units: &[usize], widths: &[usize]) -> Result<Self> {
        let filters = widths.first().map(|width| width / block.divisor());
        let stem = Stem {
            filters: filters.unwrap_or(Stem::IMAGENET.filters),
            ..Stem::IMAGENET
        };
        Ok(Self {
            version: Version::V1,
            ..Self::of_stages(stem, block, units, widths, Downsampling::Unit)?
        })
    }

    /// How many times as many rows and columns an image has as what is pooled in the end.
    pub fn reduction(&self) -> usize {
        let pooling = match self.downsampling {
            Downsampling::Unit | Downsampling::UnitOfZeros => 1,
            Downsampling::Pool => 2,
        };
        let stages = self.stages.iter().map(|stage| stage.stride * pooling);
        let stem = self.stem.stride * if self.stem.pools { 2 } else { 1 };
        stem * stages.product::<usize>()
    }

    /// Layers with weights, as the literature counts them: without the shortcuts.
    pub fn depth(&self) -> usize {
        // A unit's sizes do not matter here.
        let in_a_unit = self.block.convolutions(self.version, 1, 1, 1).len();
        let units: usize = self.stages.iter().map(|stage| stage.units).sum();
        let pooled = match self.downsampling {
            Downsampling::Unit | Downsampling::UnitOfZeros => 0,
            Downsampling::Pool => self.stages.len(),
        };
        1 + pooled + units * in_a_unit + 1
    }
}
