//! The networks that a user can choose by name.
//!
//! A network is a row of [`NETWORKS`]. All are pre-activation networks ("v2", He et al. 2016, "Identity Mappings in Deep
//! Residual Networks"): batch norm and ReLU come before each convolution, and one of each after the last unit.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};
use xla_graphs::network::Block::{self, Basic, Bottleneck};
use xla_graphs::network::Downsampling::{self, Unit, UnitOfZeros};
use xla_graphs::network::Stem;

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
    /// From three `--widths`.
    Widths,
    /// From `--stage-units`, `--widths` and `--block`.
    ByHand,
    /// From the row.
    Fixed(Fixed),
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

/// Rows, columns and classes of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    pub side: usize,
    pub classes: usize,
}

const CIFAR: Images = Images {
    side: 32,
    classes: 10,
};
const IMAGENET: Images = Images {
    side: 224,
    classes: 1000,
};

const SMALL: Stem = Stem::small(16);
const LARGE: Stem = Stem::IMAGENET;

const OF_CIFAR: &str =
    "As published for CIFAR-10, pre-activation: basic blocks, shortcuts without weights";
const WIDE: &str = "Wide residual network for CIFAR (Zagoruyko & Komodakis 2016), without dropout";
const OF_IMAGENET: &str =
    "The layout for ImageNet, pre-activation: 7x7 stem, max pooling; for --image-size 64 and more";

/// All networks, in the order of `--help`.
#[rustfmt::skip]
pub static NETWORKS: [Named; 14] = [
    Named { name: "resnet-v2", title: "ResNet", shape: Shape::Depth, images: CIFAR,
            help: "Pre-activation bottleneck units, as many as the depth says" },
    Named { name: "fast", title: "Fast", shape: Shape::Widths, images: CIFAR,
            help: "Wide and shallow, for short runs; its depth is fixed" },
    //     name            title                    stem   block       units            widths                    shortcuts
    fixed("resnet20-v2",  "ResNet-20-basic v2",     SMALL, Basic,      &[3, 3, 3],      &[16, 32, 64],            UnitOfZeros, CIFAR,    OF_CIFAR),
    fixed("resnet32-v2",  "ResNet-32-basic v2",     SMALL, Basic,      &[5, 5, 5],      &[16, 32, 64],            UnitOfZeros, CIFAR,    OF_CIFAR),
    fixed("resnet44-v2",  "ResNet-44-basic v2",     SMALL, Basic,      &[7, 7, 7],      &[16, 32, 64],            UnitOfZeros, CIFAR,    OF_CIFAR),
    fixed("resnet56-v2",  "ResNet-56-basic v2",     SMALL, Basic,      &[9, 9, 9],      &[16, 32, 64],            UnitOfZeros, CIFAR,    OF_CIFAR),
    fixed("resnet110-v2", "ResNet-110-basic v2",    SMALL, Basic,      &[18, 18, 18],   &[16, 32, 64],            UnitOfZeros, CIFAR,    OF_CIFAR),
    fixed("wrn-16-4",     "WRN-16-4",               SMALL, Basic,      &[2, 2, 2],      &[64, 128, 256],          Unit,        CIFAR,    WIDE),
    fixed("wrn-28-10",    "WRN-28-10",              SMALL, Basic,      &[4, 4, 4],      &[160, 320, 640],         Unit,        CIFAR,    WIDE),
    fixed("resnet18-v2",  "ResNet-18-ImageNet v2",  LARGE, Basic,      &[2, 2, 2, 2],   &[64, 128, 256, 512],     Unit,        IMAGENET, OF_IMAGENET),
    fixed("resnet34-v2",  "ResNet-34-ImageNet v2",  LARGE, Basic,      &[3, 4, 6, 3],   &[64, 128, 256, 512],     Unit,        IMAGENET, OF_IMAGENET),
    fixed("resnet50-v2",  "ResNet-50-ImageNet v2",  LARGE, Bottleneck, &[3, 4, 6, 3],   &[256, 512, 1024, 2048],  Unit,        IMAGENET, OF_IMAGENET),
    fixed("resnet101-v2", "ResNet-101-ImageNet v2", LARGE, Bottleneck, &[3, 4, 23, 3],  &[256, 512, 1024, 2048],  Unit,        IMAGENET, OF_IMAGENET),
    Named { name: "custom", title: "Custom", shape: Shape::ByHand, images: CIFAR,
            help: "Stages by hand: --stage-units, --widths and --block, behind a 3x3 convolution of 16 filters" },
];

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
const fn fixed(
    name: &'static str,
    title: &'static str,
    stem: Stem,
    block: Block,
    units: &'static [usize],
    widths: &'static [usize],
    downsampling: Downsampling,
    images: Images,
    help: &'static str,
) -> Named {
    let shape = Shape::Fixed(Fixed {
        stem,
        block,
        units,
        widths,
        downsampling,
    });
    Named {
        name,
        title,
        help,
        shape,
        images,
    }
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
            Shape::Widths => &["widths"],
            Shape::ByHand => &["stage-units", "widths", "block"],
            Shape::Fixed(_) => &[],
        }
    }

    /// The names of the kinds that read `setting`.
    pub fn readers(setting: &str) -> String {
        let readers = KINDS
            .iter()
            .filter(|kind| kind.settings().contains(&setting));
        let names: Vec<&str> = readers.map(|kind| kind.0.name).collect();
        names.join(" and ")
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
