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
}

impl Preset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Keras => "keras",
            Self::Quick => "quick",
            Self::Fast => "fast",
        }
    }
}
