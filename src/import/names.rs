//! What PyTorch modules call the tensors of a network.

use std::collections::HashSet;

use safetensors::SafeTensors;
use xla_graphs::TensorSpec;
use xla_graphs::network::Version;

/// The kernel whose outputs are the classes, under this program's name.
pub const CLASSIFIER: &str = "dense/kernel";

/// The layers of a kind of module: this program's path of a layer beside the module's. `{s}` and the like stand for a
/// number and its digits, which both have; `{s-1}` is one less.
pub struct Naming {
    /// What has such names, for messages.
    pub help: &'static str,
    layers: &'static [(&'static str, &'static str)],
}

/// All namings.
pub static NAMINGS: [Naming; 3] = [
    Naming {
        help: "benches/peers/peer_pytorch.py names them",
        layers: &[
            ("conv_in", "conv_in"),
            ("stage{s}/unit{u}/bn{n}", "units.stage{s}_unit{u}.bn{n}"),
            ("stage{s}/unit{u}/conv{n}", "units.stage{s}_unit{u}.conv{n}"),
            (
                "stage{s}/unit{u}/shortcut",
                "units.stage{s}_unit{u}.shortcut",
            ),
            ("bn_out", "bn_out"),
            ("dense", "dense"),
        ],
    },
    Naming {
        help: "benches/peers/fast_pytorch.py numbers them",
        layers: &[
            ("conv_in", "0"),
            ("stage1/pool/bn1", "1.bn"),
            ("stage1/pool/conv1", "1.conv"),
            ("stage1/unit01/bn1", "2.bn"),
            ("stage1/unit01/conv1", "2.conv"),
            ("stage2/pool/bn1", "3.bn"),
            ("stage2/pool/conv1", "3.conv"),
            ("stage2/unit01/bn1", "4.bn"),
            ("stage2/unit01/conv1", "4.conv"),
            ("stage3/pool/bn1", "5.bn"),
            ("stage3/pool/conv1", "5.conv"),
            ("stage3/unit01/bn1", "6.bn"),
            ("stage3/unit01/conv1", "6.conv"),
            ("bn_out", "7"),
            ("dense", "11"),
        ],
    },
    Naming {
        help: "torchvision and timm name them",
        layers: &[
            ("conv_in", "conv1"),
            ("bn_in", "bn1"),
            ("stage{s}/unit{u}/conv{n}", "layer{s}.{u-1}.conv{n}"),
            ("stage{s}/unit{u}/bn{n}", "layer{s}.{u-1}.bn{n}"),
            ("stage{s}/unit{u}/shortcut", "layer{s}.{u-1}.downsample.0"),
            ("stage{s}/unit{u}/bn_skip", "layer{s}.{u-1}.downsample.1"),
            ("dense", "fc"),
        ],
    },
];

/// Networks of others that differ from the one that was asked for, whatever their tensors are called.
struct Other {
    /// The names of some of its tensors, behind a prefix.
    tensors: &'static [&'static str],
    /// The networks here that compute the same, if some do.
    version: Option<Version>,
    /// What it is, and in what it differs.
    help: &'static str,
}

const OTHERS: [Other; 2] = [
    Other {
        tensors: &[
            "stages.0.blocks.0.norm1.weight",
            "stages.0.blocks.0.conv1.weight",
            "norm.weight",
        ],
        version: None,
        help: "a resnetv2 of timm's, which halves images in other places: its 7x7 and 3x3 convolutions with stride 2 and its \
               max pooling pad both sides and not only the far one, and its bottlenecks have the stride in their 3x3 \
               convolution and not in the 1x1 before it (docs/networks.md)",
    },
    Other {
        tensors: &[
            "layer1.0.conv1.weight",
            "layer1.0.bn1.weight",
            "bn1.weight",
            "fc.weight",
        ],
        version: Some(Version::V1),
        help: "a ResNet of version 1, as torchvision and timm publish them; say which with --model resnet18-v1, resnet34-v1, \
               resnet50-v1 or resnet101-v1 (docs/networks.md)",
    },
];

/// What network `file` has, if it is one that cannot be imported as a network of `version`.
pub fn other(file: &SafeTensors, version: Version) -> Option<&'static str> {
    let has = |prefix: &str, tensor: &str| file.tensor(&format!("{prefix}{tensor}")).is_ok();
    let mut others = OTHERS.iter();
    let found = others.find(|other| {
        let has_all = |prefix: &&str| other.tensors.iter().all(|tensor| has(prefix, tensor));
        other.version != Some(version) && PREFIXES.iter().any(has_all)
    });
    found.map(|other| other.help)
}

/// The tensors of a layer: this program's names beside PyTorch's.
const TENSORS: [(&str, &str); 6] = [
    ("kernel", "weight"),
    ("bias", "bias"),
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
];
/// What wrappers put before all names.
const PREFIXES: [&str; 3] = ["", "module.", "_orig_mod."];
/// A tensor that PyTorch's batch norm has and nothing needs.
const UNUSED: &str = ".num_batches_tracked";

/// The names in a file.
pub struct Names {
    pub naming: &'static Naming,
    prefix: &'static str,
}

impl Names {
    /// The naming and the prefix under which `file` has the most of the tensors `specs`, or else a naming that has names for
    /// all of them.
    pub fn of(specs: &[TensorSpec], file: &SafeTensors) -> Self {
        let found = |names: &Names| {
            let known = |spec: &&TensorSpec| {
                let name = names.theirs(&spec.name);
                name.is_some_and(|name| file.tensor(&name).is_ok())
            };
            specs.iter().filter(known).count()
        };
        let plain = |naming: &'static Naming| Names { naming, prefix: "" };
        let names_all = |naming: &&'static Naming| {
            let names = plain(naming);
            specs.iter().all(|spec| names.theirs(&spec.name).is_some())
        };
        let mut best = plain(NAMINGS.iter().find(names_all).unwrap_or(&NAMINGS[0]));
        for naming in &NAMINGS {
            for prefix in PREFIXES {
                let names = Names { naming, prefix };
                if found(&names) > found(&best) {
                    best = names;
                }
            }
        }
        best
    }

    /// The name of the tensor `ours`; `None` if the naming has no such layer.
    pub fn theirs(&self, ours: &str) -> Option<String> {
        let (layer, tensor) = ours.rsplit_once('/')?;
        let (_, tensor) = TENSORS.iter().find(|(name, _)| *name == tensor)?;
        let mut layers = self.naming.layers.iter();
        let layer = layers.find_map(|(from, to)| Some(fill(to, &numbers(from, layer)?)))?;
        Some(format!("{}{layer}.{tensor}", self.prefix))
    }

    /// The tensors of `file` that are none of `specs`, by name.
    pub fn left_over(&self, specs: &[TensorSpec], file: &SafeTensors) -> Vec<String> {
        let ours: HashSet<String> = specs
            .iter()
            .filter_map(|spec| self.theirs(&spec.name))
            .collect();
        let names = file.names().into_iter().map(str::to_owned);
        let mut left: Vec<String> = names
            .filter(|name| !name.ends_with(UNUSED) && !ours.contains(name))
            .collect();
        left.sort();
        left
    }
}

/// What the letters in braces of `pattern` stand for in `text`, which is otherwise the same; `None` if it is not.
fn numbers<'a>(pattern: &'a str, text: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut found = Vec::new();
    let (mut pattern, mut text) = (pattern, text);
    while let Some((before, after)) = pattern.split_once('{') {
        let (letter, rest) = after.split_once('}')?;
        let digits = text.strip_prefix(before)?;
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        let (number, after) = digits.split_at(end);
        if number.is_empty() {
            return None;
        }
        found.push((letter, number));
        (pattern, text) = (rest, after);
    }
    (pattern == text).then_some(found)
}

/// `pattern` with `numbers` in the places of its letters.
fn fill(pattern: &str, numbers: &[(&str, &str)]) -> String {
    let mut text = pattern.to_owned();
    for (letter, number) in numbers {
        text = text.replace(&format!("{{{letter}}}"), number);
        let less = number.parse::<usize>().map_or(0, |n| n.saturating_sub(1));
        text = text.replace(&format!("{{{letter}-1}}"), &less.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_pattern_are_put_where_the_other_one_has_them() {
        let filled = |from: &str, to: &str, text: &str| Some(fill(to, &numbers(from, text)?));
        let (ours, theirs) = ("stage{s}/unit{u}/conv{n}", "layer{s}.{u-1}.conv{n}");
        let expected = Some("layer3.11.conv2".to_owned());
        assert_eq!(filled(ours, theirs, "stage3/unit12/conv2"), expected);
        for other in [
            "stage3/unit12/bn2",
            "stage/unit12/conv2",
            "stage3/unit12/conv2/x",
            "",
        ] {
            assert_eq!(filled(ours, theirs, other), None, "{other}");
        }
        assert_eq!(filled("dense", "fc", "dense"), Some("fc".to_owned()));
    }
}
