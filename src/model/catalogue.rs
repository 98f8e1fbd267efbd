//! The networks that a user can choose by name.
//!
//! A network is a row of [`NETWORKS`]. Those of version 2 are pre-activation networks (He et al. 2016, "Identity Mappings in
//! Deep Residual Networks"): batch norm and ReLU come before each convolution, and one of each after the last unit. In those
//! of version 1 (He et al. 2016, "Deep Residual Learning for Image Recognition") a batch norm comes behind each convolution.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};
use xla_graphs::network::Block::{self, Basic, Bottleneck};
use xla_graphs::network::Downsampling::{self, Unit, UnitOfZeros};
use xla_graphs::network::{Stem, Version};

use crate::data::Normalization;

/// A network that a user can choose.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// On the command line.
    pub name: &'static str,
    /// In messages and files; of kinds with settings, the part before their numbers.
    pub title: &'static str,
    pub help: &'static str,
    pub shape: Shape,
    /// What `summary`, `bench` and `compile` take if they are told no other.
    pub images: Images,
}

/// Where the numbers of a network come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// From `--depth`.
    Depth,
    /// From three `--widths`; as many units in each stage as the row says.
    Widths { units: usize },
    /// From `--stage-units`, `--widths` and `--block`.
    ByHand(Version),
    /// From the row.
    Fixed(Fixed),
    /// From the row, of version 1.
    FixedV1(FixedV1),
}

/// Stages of units; all but the first halve the images.
#[derive(Debug, PartialEq, Eq)]
pub struct Fixed {
    pub stem: Stem,
    pub block: Block,
    /// Of each stage.
    pub units: &'static [usize],
    /// Output channels of the units of each stage.
    pub widths: &'static [usize],
    pub downsampling: Downsampling,
}

/// Stages of units of version 1; all but the first halve the images.
#[derive(Debug, PartialEq, Eq)]
pub struct FixedV1 {
    pub block: Block,
    /// Of each stage.
    pub units: &'static [usize],
    /// Output channels of the units of each stage.
    pub widths: &'static [usize],
}

/// Rows, columns and classes of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    pub side: usize,
    pub classes: usize,
}

/// All networks, in the order of `--help`.
#[rustfmt::skip]
pub static NETWORKS: [Named; 20] = [
    named("resnet-v2",    "ResNet",                 BOTTLENECKS, CIFAR,    Shape::Depth),
    named("fast",         "Fast",                   SHORT_RUNS,  CIFAR,    Shape::Widths { units: 1 }),
    named("fast-deep",    "Fast-deep",              LONGER_RUNS, CIFAR,    Shape::Widths { units: 2 }),
    //                                                                                          units          channels
    named("resnet20-v2",  "ResNet-20-basic v2",     BASIC,       CIFAR,    basic(              &[3, 3, 3])),
    named("resnet32-v2",  "ResNet-32-basic v2",     BASIC,       CIFAR,    basic(              &[5, 5, 5])),
    named("resnet44-v2",  "ResNet-44-basic v2",     BASIC,       CIFAR,    basic(              &[7, 7, 7])),
    named("resnet56-v2",  "ResNet-56-basic v2",     BASIC,       CIFAR,    basic(              &[9, 9, 9])),
    named("resnet110-v2", "ResNet-110-basic v2",    BASIC,       CIFAR,    basic(              &[18, 18, 18])),
    named("wrn-16-4",     "WRN-16-4",               WIDE,        CIFAR,    wide(               &[2, 2, 2],    &[64, 128, 256])),
    named("wrn-28-10",    "WRN-28-10",              WIDE,        CIFAR,    wide(               &[4, 4, 4],    &[160, 320, 640])),
    named("resnet18-v2",  "ResNet-18-ImageNet v2",  LARGE,       IMAGENET, large(Basic,        &[2, 2, 2, 2], &[64, 128, 256, 512])),
    named("resnet34-v2",  "ResNet-34-ImageNet v2",  LARGE,       IMAGENET, large(Basic,        &[3, 4, 6, 3], &[64, 128, 256, 512])),
    named("resnet50-v2",  "ResNet-50-ImageNet v2",  LARGE,       IMAGENET, large(Bottleneck,   &[3, 4, 6, 3], &[256, 512, 1024, 2048])),
    named("resnet101-v2", "ResNet-101-ImageNet v2", LARGE,       IMAGENET, large(Bottleneck,   &[3, 4, 23, 3], &[256, 512, 1024, 2048])),
    named("resnet18-v1",  "ResNet-18-ImageNet v1",  PUBLISHED,   IMAGENET, v1(Basic,           &[2, 2, 2, 2], &[64, 128, 256, 512])),
    named("resnet34-v1",  "ResNet-34-ImageNet v1",  PUBLISHED,   IMAGENET, v1(Basic,           &[3, 4, 6, 3], &[64, 128, 256, 512])),
    named("resnet50-v1",  "ResNet-50-ImageNet v1",  PUBLISHED,   IMAGENET, v1(Bottleneck,      &[3, 4, 6, 3], &[256, 512, 1024, 2048])),
    named("resnet101-v1", "ResNet-101-ImageNet v1", PUBLISHED,   IMAGENET, v1(Bottleneck,      &[3, 4, 23, 3], &[256, 512, 1024, 2048])),
    named("custom",       "Custom",                 BY_HAND,     CIFAR,    Shape::ByHand(Version::V2)),
    named("custom-v1",    "Custom-v1",              V1_BY_HAND,  IMAGENET, Shape::ByHand(Version::V1)),
];

const BOTTLENECKS: &str = "Pre-activation bottleneck units, as many as the depth says";
const SHORT_RUNS: &str = "Wide and shallow, for short runs; its depth is fixed";
const LONGER_RUNS: &str = "As fast, with a unit more in each stage, for longer runs";
const BASIC: &str =
    "As published for CIFAR-10, pre-activation: basic blocks, shortcuts without weights";
const WIDE: &str = "Wide residual network for CIFAR (Zagoruyko & Komodakis 2016), without dropout";
const LARGE: &str =
    "The layout for ImageNet, pre-activation: 7x7 stem, max pooling; for --image-size 64 and more";
const PUBLISHED: &str = "As torchvision and timm publish it, for their weights (`import`); for --image-size 64 and more";
const BY_HAND: &str =
    "Stages by hand: --stage-units, --widths and --block, behind a 3x3 convolution of 16 filters";
const V1_BY_HAND: &str = "Stages by hand as those of torchvision: --stage-units, --widths and --block, behind a 7x7 stem";

const CIFAR: Images = Images {
    side: 32,
    classes: 10,
};
const IMAGENET: Images = Images {
    side: 224,
    classes: 1000,
};

const fn named(
    name: &'static str,
    title: &'static str,
    help: &'static str,
    images: Images,
    shape: Shape,
) -> Named {
    Named {
        name,
        title,
        help,
        shape,
        images,
    }
}

/// He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
const fn basic(units: &'static [usize]) -> Shape {
    Shape::Fixed(Fixed {
        stem: Stem::small(16),
        block: Basic,
        units,
        widths: &[16, 32, 64],
        downsampling: UnitOfZeros,
    })
}

/// Zagoruyko & Komodakis 2016, "Wide Residual Networks".
const fn wide(units: &'static [usize], widths: &'static [usize]) -> Shape {
    Shape::Fixed(Fixed {
        stem: Stem::small(16),
        block: Basic,
        units,
        widths,
        downsampling: Unit,
    })
}

/// He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.
const fn large(block: Block, units: &'static [usize], widths: &'static [usize]) -> Shape {
    Shape::Fixed(Fixed {
        stem: Stem::IMAGENET,
        block,
        units,
        widths,
        downsampling: Unit,
    })
}

/// He et al. 2016, "Deep Residual Learning for Image Recognition", table 1, as torchvision has it.
const fn v1(block: Block, units: &'static [usize], widths: &'static [usize]) -> Shape {
    Shape::FixedV1(FixedV1 {
        block,
        units,
        widths,
    })
}

/// One of [`NETWORKS`]. Written as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NetworkKind(&'static Named);

static KINDS: LazyLock<Vec<NetworkKind>> =
    LazyLock::new(|| NETWORKS.iter().map(NetworkKind).collect());

impl NetworkKind {
    /// The tutorial's network, of any depth.
    pub const RESNET_V2: Self = Self(&NETWORKS[0]);

    /// Its row.
    pub fn row(self) -> &'static Named {
        self.0
    }

    /// The settings that give it its numbers.
    pub fn settings(self) -> &'static [&'static str] {
        match self.0.shape {
            Shape::Depth => &["depth"],
            Shape::Widths { .. } => &["widths"],
            Shape::ByHand(_) => &["stage-units", "widths", "block"],
            Shape::Fixed(_) | Shape::FixedV1(_) => &[],
        }
    }

    /// Whether its stages are given by hand.
    pub fn is_by_hand(self) -> bool {
        matches!(self.0.shape, Shape::ByHand(_))
    }

    pub fn version(self) -> Version {
        match self.0.shape {
            Shape::Depth | Shape::Widths { .. } | Shape::Fixed(_) => Version::V2,
            Shape::ByHand(version) => version,
            Shape::FixedV1(_) => Version::V1,
        }
    }

    /// How images are normalised whatever they are; `None`: by their own mean and deviation. The published weights of version 1
    /// were trained on images normalised by ImageNet's.
    pub fn normalization(self) -> Option<Normalization> {
        match self.version() {
            Version::V1 => Some(Normalization::IMAGENET),
            Version::V2 => None,
        }
    }

    /// The names of the kinds that read `setting`.
    pub fn readers(setting: &str) -> String {
        let readers = KINDS
            .iter()
            .filter(|kind| kind.settings().contains(&setting));
        let names: Vec<&str> = readers.map(|kind| kind.0.name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

impl Default for NetworkKind {
    /// [`Self::RESNET_V2`].
    fn default() -> Self {
        Self::RESNET_V2
    }
}

impl From<NetworkKind> for String {
    fn from(kind: NetworkKind) -> Self {
        kind.0.name.to_owned()
    }
}

impl TryFrom<String> for NetworkKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = KINDS.iter().find(|kind| kind.0.name == name);
        known
            .copied()
            .ok_or_else(|| format!("there is no network `{name}`"))
    }
}

impl ValueEnum for NetworkKind {
    fn value_variants<'a>() -> &'a [Self] {
        &KINDS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name).help(self.0.help))
    }
}
