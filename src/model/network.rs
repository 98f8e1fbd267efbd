//! The networks that a user can choose.

use std::fmt;
use std::str::FromStr;

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

/// Output channels of the three stages of [`NetworkKind::Fast`]. Written `64,256,256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Widths([usize; 3]);

impl Widths {
    /// The CPU's kernels take so many channels at a time.
    const UNIT: usize = 16;
    const MOST: usize = 2048;
    /// Those of the preset `fast`.
    pub const OF_PRESET: &str = "128,256,384";
    /// Those of checkpoints from before there was a choice.
    pub const FORMER: &str = "64,256,256";
}

impl Default for Widths {
    /// [`Self::FORMER`].
    fn default() -> Self {
        Self([64, 256, 256])
    }
}

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed: Result<Vec<usize>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        let fits =
            |width: &usize| width.is_multiple_of(Self::UNIT) && (1..=Self::MOST).contains(width);
        match parsed.map(<[usize; 3]>::try_from) {
            Ok(Ok(widths)) if widths.iter().all(fits) => Ok(Self(widths)),
            _ => Err(format!(
                "expected three multiples of {} up to {}, for example {}",
                Self::UNIT,
                Self::MOST,
                Self::OF_PRESET
            )),
        }
    }
}

impl TryFrom<String> for Widths {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Widths> for String {
    fn from(widths: Widths) -> Self {
        widths.0.map(|width| width.to_string()).join(",")
    }
}

/// A network, without image size and classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub kind: NetworkKind,
    /// Layers, 9n+2; read by [`NetworkKind::ResnetV2`] alone.
    pub depth: usize,
    /// Read by [`NetworkKind::Fast`] alone.
    pub widths: Widths,
}

impl Network {
    /// The pre-activation network of `depth` layers.
    pub fn resnet_v2(depth: usize) -> Self {
        Self {
            kind: NetworkKind::ResnetV2,
            depth,
            widths: Widths::default(),
        }
    }

    /// The shape of the network.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is none of this depth.
    pub fn architecture(self) -> Result<Architecture, GraphError> {
        match self.kind {
            NetworkKind::ResnetV2 => Architecture::resnet_v2(self.depth),
            NetworkKind::Fast => Ok(Architecture::fast(self.widths.0, 1)),
        }
    }

    /// The table of its tensors, for `classes` classes, with `slots` of an optimiser.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn layout(self, classes: usize, slots: &[&'static str]) -> Result<Layout, GraphError> {
        Ok(Layout::new(self.layers(classes)?.tensors(), slots))
    }

    /// Its layers, for `classes` classes.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn layers(self, classes: usize) -> Result<ResNet, GraphError> {
        // The lowering changes how the network is computed, not what it is.
        ResNet::new(&self.architecture()?, classes, Lowering::Native)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.kind {
            NetworkKind::ResnetV2 => write!(f, "ResNet-{} v2", self.depth),
            NetworkKind::Fast => {
                let [first, second, third] = self.widths.0;
                write!(f, "Fast-{first}-{second}-{third}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_three_multiples_of_16() {
        let widths: Widths = "128, 256,384".parse().unwrap();
        assert_eq!(widths, Widths([128, 256, 384]));
        assert_eq!(String::from(widths), "128,256,384");
        assert_eq!(Widths::FORMER.parse(), Ok(Widths::default()));
        assert_eq!(Widths::OF_PRESET.parse(), Ok(widths));
        for wrong in [
            "",
            "64",
            "64,64",
            "64,64,64,64",
            "8,16,16",
            "0,16,16",
            "-16,16,16",
            "16,16,2064",
            "16,x,16",
        ] {
            let error = wrong.parse::<Widths>().unwrap_err();
            assert_eq!(
                error,
                "expected three multiples of 16 up to 2048, for example 128,256,384"
            );
        }
    }
}
