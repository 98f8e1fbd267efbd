//! Where a network has its batch norms, and what goes with that.

use crate::network::block::Convolution;
use crate::ops::Lowering;
use crate::ops::batch_norm::{self, BatchNorm};
use crate::ops::conv::{Conv, Padding};

/// The two kinds of residual networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// He et al. 2016, "Deep Residual Learning for Image Recognition", as PyTorch has it (torchvision, timm): a batch norm
    /// behind each convolution, and a ReLU behind each but the last of a unit, and behind the sum.
    V1,
    /// He et al. 2016, "Identity Mappings in Deep Residual Networks", as TensorFlow has it: a batch norm and a ReLU before
    /// each convolution, and one of each behind the last unit.
    V2,
}

/// PyTorch's.
const EPSILON_OF_V1: f32 = 1e-5;

/// What all layers of a network have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub version: Version,
    pub lowering: Lowering,
}

impl Common {
    pub fn conv(self, name: &str, shape: Convolution) -> Conv {
        Conv {
            name: name.to_owned(),
            side: shape.side,
            stride: shape.stride,
            inputs: shape.inputs,
            outputs: shape.outputs,
            padding: match self.version {
                Version::V1 => Padding::Near,
                Version::V2 => Padding::Far,
            },
            lowering: self.lowering,
        }
    }

    pub fn batch_norm(self, name: &str, channels: usize) -> BatchNorm {
        BatchNorm {
            name: name.to_owned(),
            channels,
            epsilon: match self.version {
                Version::V1 => EPSILON_OF_V1,
                Version::V2 => batch_norm::EPSILON,
            },
            lowering: self.lowering,
        }
    }
}
