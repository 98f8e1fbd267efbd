//! What the units of a network are made of.

use std::fmt;

use crate::network::version::Version;

/// The kinds of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// 1x1, 3x3, 1x1; the first two have a quarter of the unit's output channels. The stride is in the 3x3 in version 1,
    /// and in the first in version 2.
    Bottleneck,
    /// 3x3 with the stride, 3x3.
    Basic,
    /// One 3x3 with the stride.
    Single,
}

/// A convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Side of the square kernel.
    pub side: usize,
    pub stride: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Bottleneck => "bottleneck",
            Self::Basic => "basic",
            Self::Single => "single",
        })
    }
}

impl Block {
    /// What a unit's output channels must be a multiple of.
    pub fn divisor(self) -> usize {
        match self {
            Self::Bottleneck => NARROWER,
            Self::Basic | Self::Single => 1,
        }
    }

    /// The convolutions of a unit from `inputs` to `outputs` channels: at least one.
    pub fn convolutions(
        self,
        version: Version,
        inputs: usize,
        outputs: usize,
        stride: usize,
    ) -> Vec<Convolution> {
        match self {
            Self::Bottleneck => bottleneck(version, inputs, outputs, stride),
            Self::Basic => vec![
                convolution(3, stride, inputs, outputs),
                convolution(3, 1, outputs, outputs),
            ],
            Self::Single => vec![convolution(3, stride, inputs, outputs)],
        }
    }
}

/// The inner layers of a bottleneck have so many times fewer channels than its output.
const NARROWER: usize = 4;

fn bottleneck(version: Version, inputs: usize, outputs: usize, stride: usize) -> Vec<Convolution> {
    let inner = outputs / NARROWER;
    let (first, second) = match version {
        Version::V1 => (1, stride),
        Version::V2 => (stride, 1),
    };
    vec![
        convolution(1, first, inputs, inner),
        convolution(3, second, inner, inner),
        convolution(1, 1, inner, outputs),
    ]
}

fn convolution(side: usize, stride: usize, inputs: usize, outputs: usize) -> Convolution {
    Convolution {
        side,
        stride,
        inputs,
        outputs,
    }
}
