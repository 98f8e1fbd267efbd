//! The networks that a user can choose.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, GraphError, Layout, ResNet};

/// The kinds of networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// Pre-activation bottleneck units, as many as the depth says
    #[default]
    ResnetV2,
    /// Wide and shallow, for short runs; its depth is fixed
    Fast,
}

/// A network, without image size and classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub kind: NetworkKind,
    /// Layers, 9n+2; read by [`NetworkKind::ResnetV2`] alone.
    pub depth: usize,
}

impl Network {
    /// The pre-activation network of `depth` layers.
    pub fn resnet_v2(depth: usize) -> Self {
        Self {
            kind: NetworkKind::ResnetV2,
            depth,
        }
    }

    /// The shape of the network.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is none of this depth.
    pub fn architecture(self) -> Result<Architecture, GraphError> {
        match self.kind {
            NetworkKind::ResnetV2 => Architecture::resnet_v2(self.depth),
            NetworkKind::Fast => Ok(Architecture::fast([64, 256, 256], 1)),
        }
    }

    /// The table of its tensors, for `classes` classes, with `slots` of an optimiser.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn layout(self, classes: usize, slots: &[&'static str]) -> Result<Layout, GraphError> {
        // The lowering changes how the network is computed, not what it is.
        let network = ResNet::new(&self.architecture()?, classes, Lowering::Native)?;
        Ok(Layout::new(network.tensors(), slots))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.kind {
            NetworkKind::ResnetV2 => write!(f, "ResNet-{} v2", self.depth),
            NetworkKind::Fast => f.write_str("Fast network"),
        }
    }
}
