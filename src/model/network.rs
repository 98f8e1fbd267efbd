//! A network and the numbers that shape it.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xla_graphs::network::{Block, Downsampling, Stem, Version};
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, GraphError, Layout, ResNet};

pub use crate::model::catalogue::NetworkKind;
use crate::model::catalogue::Shape;
use crate::model::stages::MOST_STAGES;
pub use crate::model::stages::{StageUnits, Widths};

/// Parameters of a network by hand, at most: the checkpoints of larger ones could not be read.
const MOST_PARAMETERS: usize = 60_000_000;

/// The units of a network by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockChoice {
    /// Two 3x3 convolutions
    #[default]
    Basic,
    /// 1x1, 3x3 and 1x1; the first two have a quarter of the channels
    Bottleneck,
}

impl From<BlockChoice> for Block {
    fn from(choice: BlockChoice) -> Self {
        match choice {
            BlockChoice::Basic => Self::Basic,
            BlockChoice::Bottleneck => Self::Bottleneck,
        }
    }
}

/// A network, without image size and classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub kind: NetworkKind,
    /// Layers, 9n+2; read by [`NetworkKind::RESNET_V2`] alone.
    pub depth: usize,
    /// Read by `fast`, `fast-deep`, `custom` and `custom-v1`.
    pub widths: Widths,
    /// Read by `custom` and `custom-v1`.
    #[serde(default)]
    pub stage_units: StageUnits,
    /// Read by `custom` and `custom-v1`.
    #[serde(default)]
    pub block: BlockChoice,
}

impl Network {
    /// The pre-activation network of `depth` layers.
    pub fn resnet_v2(depth: usize) -> Self {
        Self {
            kind: NetworkKind::RESNET_V2,
            depth,
            widths: Widths::default(),
            stage_units: StageUnits::default(),
            block: BlockChoice::default(),
        }
    }

    /// The shape of the network.
    ///
    /// # Errors
    /// [`GraphError::Depth`] when there is none of this depth, [`GraphError::Shape`] when there is none of these numbers.
    pub fn architecture(&self) -> Result<Architecture, GraphError> {
        match &self.kind.row().shape {
            Shape::Depth => Architecture::resnet_v2(self.depth),
            Shape::Widths { units } => Ok(Architecture::fast(self.fast_widths()?, *units)),
            Shape::ByHand(version) => self.by_hand(*version),
            Shape::Fixed(fixed) => Architecture::of_stages(
                fixed.stem,
                fixed.block,
                fixed.units,
                fixed.widths,
                fixed.downsampling,
            ),
            Shape::FixedV1(fixed) => Architecture::v1(fixed.block, fixed.units, fixed.widths),
        }
    }

    fn fast_widths(&self) -> Result<[usize; 3], GraphError> {
        let widths = <[usize; 3]>::try_from(self.widths.0.as_slice());
        let fits = |widths: &[usize; 3]| widths.iter().all(|w| w.is_multiple_of(Widths::UNIT));
        widths.ok().filter(fits).ok_or_else(|| GraphError::Shape {
            what: "widths",
            expected: format!(
                "three multiples of {} in a fast network, for example {}",
                Widths::UNIT,
                Widths::OF_PRESET
            ),
            got: self.widths.0.to_string(),
        })
    }

    fn by_hand(&self, version: Version) -> Result<Architecture, GraphError> {
        let (units, widths) = (self.stage_units.0.as_slice(), self.widths.0.as_slice());
        let block = Block::from(self.block);
        let architecture = match version {
            Version::V1 => Architecture::v1(block, units, widths)?,
            Version::V2 => {
                let stem = Stem::small(16);
                Architecture::of_stages(stem, block, units, widths, Downsampling::Unit)?
            }
        };
        // The classifier adds few.
        let network = ResNet::new(&architecture, 1, Lowering::Native)?;
        match Layout::new(network.tensors(), &[]).total_parameters() {
            ..=MOST_PARAMETERS => Ok(architecture),
            got => Err(GraphError::Shape {
                what: "parameters",
                expected: format!("at most {MOST_PARAMETERS}: fewer or narrower units"),
                got: got.to_string(),
            }),
        }
    }

    /// The layers that training can leave as they are: the stem and each stage, in the order in which data meets them.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn freezable(&self) -> Result<Vec<String>, GraphError> {
        let stages = 1..=self.architecture()?.stages.len();
        let stages = stages.map(|number| format!("{STAGE}{number}"));
        Ok([STEM.to_owned()].into_iter().chain(stages).collect())
    }

    /// The table of its tensors, for `classes` classes, with `slots` of an optimiser.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn layout(&self, classes: usize, slots: &[&'static str]) -> Result<Layout, GraphError> {
        Ok(Layout::new(self.layers(classes)?.tensors(), slots))
    }

    /// Its layers, for `classes` classes.
    ///
    /// # Errors
    /// As [`Self::architecture`].
    pub fn layers(&self, classes: usize) -> Result<ResNet, GraphError> {
        // The lowering changes how the network is computed, not what it is.
        ResNet::new(&self.architecture()?, classes, Lowering::Native)
    }
}

/// What `--freeze-until` calls the first convolution, and a stage with its number.
pub const STEM: &str = "stem";
const STAGE: &str = "stage";

/// Parses the name of layers that some network can freeze; [`Network::freezable`] has those of one.
pub fn freezable_name(text: &str) -> Result<String, String> {
    let number = text.strip_prefix(STAGE);
    let is_stage = |number: &str| (1..=MOST_STAGES).any(|stage| number == stage.to_string());
    match text == STEM || number.is_some_and(is_stage) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected {STEM}, or a stage of the network: {STAGE}1, {STAGE}2, ..."
        )),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let row = self.kind.row();
        f.write_str(row.title)?;
        match row.shape {
            Shape::Depth => write!(f, "-{} v2", self.depth),
            Shape::Widths { .. } => write!(f, "-{}", self.widths.0.joined("-")),
            Shape::ByHand(_) => write!(
                f,
                "-{}-{}-of-{}",
                Block::from(self.block),
                self.stage_units.0.joined("-"),
                self.widths.0.joined("-")
            ),
            Shape::Fixed(_) | Shape::FixedV1(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> NetworkKind {
        NetworkKind::from_str(name, false).unwrap()
    }

    fn named(name: &str) -> Network {
        Network {
            kind: kind(name),
            ..Network::resnet_v2(164)
        }
    }

    /// Trainable and non-trainable parameters of the network called `name`.
    fn parameters(name: &str, classes: usize) -> (usize, usize) {
        let layout = named(name).layout(classes, &[]).unwrap();
        let trainable = layout.trainable_parameters();
        (trainable, layout.total_parameters() - trainable)
    }

    #[test]
    fn the_networks_for_cifar_have_the_published_parameters() {
        // He et al. 2016, "Deep Residual Learning for Image Recognition", table 6, in millions.
        for (name, millions) in [
            ("resnet20-v2", 0.27),
            ("resnet32-v2", 0.46),
            ("resnet44-v2", 0.66),
            ("resnet56-v2", 0.85),
            ("resnet110-v2", 1.7),
        ] {
            let got = parameters(name, 10).0 as f64 / 1e6;
            let digits = if millions > 1.0 { 0.05 } else { 0.005 };
            assert!((got - millions).abs() <= digits, "{name}: {got}");
        }
        // github.com/akamaster/pytorch_resnet_cifar10, whose shortcuts have no weights either, counts 269,722. A batch norm
        // has as many parameters behind its convolution as before it, so v1 and v2 have the same number.
        assert_eq!(parameters("resnet20-v2", 10).0, 269_722);
    }

    #[test]
    fn the_fast_networks_have_the_parameters_counted_by_hand() {
        // Kernels of 3x3, two trainable and two moving vectors for each channel of a batch norm, and the classifier.
        for (name, layers) in [
            (
                "fast",
                &[
                    (32, 64),
                    (64, 64),
                    (64, 256),
                    (256, 256),
                    (256, 256),
                    (256, 256),
                ][..],
            ),
            (
                "fast-deep",
                &[
                    (32, 64),
                    (64, 64),
                    (64, 64),
                    (64, 256),
                    (256, 256),
                    (256, 256),
                    (256, 256),
                    (256, 256),
                    (256, 256),
                ][..],
            ),
        ] {
            let kernels: usize = layers.iter().map(|(from, to)| 9 * from * to).sum();
            let normed: usize = layers.iter().map(|(from, _)| from).sum::<usize>() + 256;
            let trainable = 9 * 3 * 32 + kernels + 2 * normed + 257 * 10;
            assert_eq!(parameters(name, 10), (trainable, 2 * normed), "{name}");
        }
    }

    #[test]
    fn the_wide_networks_have_the_published_parameters() {
        // Zagoruyko & Komodakis 2016, "Wide Residual Networks", table 4, in millions.
        for (name, millions) in [("wrn-16-4", 2.7), ("wrn-28-10", 36.5)] {
            let got = parameters(name, 10).0 as f64 / 1e6;
            assert!((got - millions).abs() <= 0.05, "{name}: {got}");
        }
        // The tests of github.com/osmr/pytorchcv have this number for wrn28_10_cifar10.
        assert_eq!(parameters("wrn-28-10", 10).0, 36_479_194);
    }

    #[test]
    fn the_networks_for_imagenet_have_the_published_parameters_of_v2() {
        // Torchvision's v1, the channels behind its projections, and pytorchcv's v2 (preresnet18, 34, 50, 101).
        for (name, v1, projected, v2) in [
            ("resnet18-v2", 11_689_512, 128 + 256 + 512, 11_687_848),
            ("resnet34-v2", 21_797_672, 128 + 256 + 512, 21_796_008),
            (
                "resnet50-v2",
                25_557_032,
                256 + 512 + 1024 + 2048,
                25_549_480,
            ),
            (
                "resnet101-v2",
                44_549_160,
                256 + 512 + 1024 + 2048,
                44_541_608,
            ),
        ] {
            let got = parameters(name, 1000).0;
            // A projection of v1 has a batch norm of two parameters a channel, and one of v2 has none.
            assert_eq!(got, v1 - 2 * projected, "{name}");
            // Pytorchcv has one more batch norm, of 64 channels, behind the stem.
            assert_eq!(got, v2 - 2 * 64, "{name}");
        }
    }

    #[test]
    fn the_networks_of_version_1_have_the_published_parameters() {
        // Torchvision's documentation of its weights, and the moving statistics of two for each channel of a batch norm.
        for (name, trainable, channels) in [
            ("resnet18-v1", 11_689_512, 4_800),
            ("resnet34-v1", 21_797_672, 8_512),
            ("resnet50-v1", 25_557_032, 26_560),
            ("resnet101-v1", 44_549_160, 52_672),
        ] {
            let expected = (trainable, 2 * channels);
            assert_eq!(parameters(name, 1000), expected, "{name}");
        }
    }

    #[test]
    fn a_network_is_named_and_its_layers_counted_as_the_literature_does() {
        for (name, depth, reduction) in [
            ("resnet20-v2", 20, 4),
            ("resnet110-v2", 110, 4),
            ("resnet18-v2", 18, 32),
            ("resnet34-v2", 34, 32),
            ("resnet50-v2", 50, 32),
            ("resnet101-v2", 101, 32),
            ("resnet18-v1", 18, 32),
            ("resnet34-v1", 34, 32),
            ("resnet50-v1", 50, 32),
            ("resnet101-v1", 101, 32),
        ] {
            let architecture = named(name).architecture().unwrap();
            assert_eq!(architecture.depth(), depth, "{name}");
            assert_eq!(architecture.reduction(), reduction, "{name}");
            assert!(named(name).to_string().contains(&depth.to_string()));
        }
        // The wide networks' paper counts the three projections, and not the classifier.
        for (name, depth) in [("wrn-16-4", 16), ("wrn-28-10", 28)] {
            assert_eq!(named(name).architecture().unwrap().depth(), depth - 3 + 1);
        }
        let custom = Network {
            stage_units: "1,3".parse().unwrap(),
            widths: "32,64".parse().unwrap(),
            block: BlockChoice::Bottleneck,
            ..named("custom")
        };
        assert_eq!(custom.to_string(), "Custom-bottleneck-1-3-of-32-64");
        assert_eq!(custom.architecture().unwrap().depth(), 1 + 3 * 4 + 1);
        assert_eq!(custom.freezable().unwrap(), ["stem", "stage1", "stage2"]);
        let v1 = Network {
            kind: kind("custom-v1"),
            ..custom
        };
        assert_eq!(v1.to_string(), "Custom-v1-bottleneck-1-3-of-32-64");
        // A 3x3 convolution of the first stage has a quarter of its channels.
        assert_eq!(v1.architecture().unwrap().stem.filters, 8);
        assert_eq!(v1.architecture().unwrap().reduction(), 8);
    }

    #[test]
    fn every_kind_is_saved_by_its_name_and_read_again() {
        for kind in NetworkKind::value_variants() {
            let name = String::from(*kind);
            assert_eq!(NetworkKind::try_from(name.clone()), Ok(*kind));
            assert_eq!(NetworkKind::from_str(&name, false), Ok(*kind));
        }
        assert!(NetworkKind::try_from("resnet".to_owned()).is_err());
        assert_eq!(NetworkKind::readers("depth"), "resnet-v2");
        assert_eq!(NetworkKind::readers("block"), "custom and custom-v1");
        assert_eq!(
            NetworkKind::readers("widths"),
            "fast, fast-deep, custom and custom-v1"
        );
    }

    #[test]
    fn numbers_of_which_there_is_no_network_are_refused_with_what_was_expected() {
        let refused = |network: Network| network.architecture().unwrap_err().to_string();
        let with = |name: &str, widths: &str| Network {
            widths: widths.parse().unwrap(),
            ..named(name)
        };
        for widths in ["64", "64,64", "64,64,64,64", "8,16,16"] {
            assert_eq!(
                refused(with("fast", widths)),
                format!(
                    "the network's widths: expected three multiples of 16 in a fast network, for example 128,256,384, got \
                     {widths}"
                )
            );
        }
        assert_eq!(
            refused(with("custom", "64,64")),
            "the network's stages: expected 3 widths, one for each number of units, got 2"
        );
        let narrow = Network {
            block: BlockChoice::Bottleneck,
            ..with("custom", "16,18,20")
        };
        assert_eq!(
            refused(narrow),
            "the network's widths: expected multiples of 4 in a bottleneck network, got 18"
        );
        let message = refused(with("custom", "2048,2048,2048"));
        assert!(message.contains("expected at most 60000000"), "{message}");
    }
}
