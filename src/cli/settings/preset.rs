use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A named set of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The Keras tutorial: ResNet-164 on CIFAR-10, 100 epochs
    Keras,
    /// Depth 11 on the embedded sample, 3 epochs: under a minute on 2 cores
    Quick,
    /// A wide and shallow network on CIFAR-10, 24 epochs: about 94 % in less than an hour on 2 cores
    Fast,
    /// As fast, with a deeper and wider network and 30 epochs: about 95 % with flips
    Fast95,
}

impl Preset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Keras => "keras",
            Self::Quick => "quick",
            Self::Fast => "fast",
            Self::Fast95 => "fast95",
        }
    }

    /// The preset whose defaults it has where it has none of its own.
    pub fn base(self) -> Option<Self> {
        match self {
            Self::Keras | Self::Quick | Self::Fast => None,
            Self::Fast95 => Some(Self::Fast),
        }
    }
}
