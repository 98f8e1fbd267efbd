//! Weights of other programs as a checkpoint of this one.
//!
//! A naming is one line in `names::NAMINGS`.
//!
//! | file | job |
//! | --- | --- |
//! | `channels` | a number for each colour, as a user writes them |
//! | `names` | what PyTorch modules call the tensors of a network |
//! | `tensors` | their values in this program's order |

mod channels;
mod names;
mod tensors;

use std::path::Path;

use safetensors::SafeTensors;
use xla_graphs::Layout;

use crate::model::network::Network;
use crate::model::state::HostState;
use crate::run::checkpoint::{self, CheckpointError};
pub use channels::Channels;
use names::Names;

/// Problems that one message names; it counts the others.
const MOST_NAMED: usize = 5;

/// A network read from a file of PyTorch's.
pub struct Imported {
    pub classes: usize,
    pub layout: Layout,
    /// Of the tensors of [`Layout::network`].
    pub values: HostState,
}

/// The weights of `network` in the safetensors file at `path`, which has the tensors of a PyTorch module.
///
/// # Errors
/// The file cannot be read, it has another kind of network than the one asked for, or its tensors are not one by one those
/// of the network: the first that are missing, have other dimensions, or belong to nothing are named.
pub fn load(path: &Path, network: Network) -> Result<Imported, CheckpointError> {
    let unusable = |reason: String| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    };
    let bytes = checkpoint::read_bytes(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
    if let Some(other) = names::other(&file, network.kind.version()) {
        return Err(unusable(format!("it is {other}")));
    }
    // The number of classes changes no names.
    let layout = |classes| {
        let layout = network.layout(classes, &[]);
        layout.map_err(|error| unusable(error.to_string()))
    };
    let some = layout(1)?;
    let names = Names::of(some.network(), &file);
    let classes = names.theirs(names::CLASSIFIER).and_then(|name| {
        let view = file.tensor(&name).ok()?;
        view.shape().first().copied()
    });
    let layout = layout(classes.unwrap_or(1))?;
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for spec in layout.network() {
        let theirs = names.theirs(&spec.name);
        match theirs.ok_or_else(|| format!("`{}` has no name in PyTorch", spec.name)) {
            Ok(theirs) => match tensors::read(&file, &theirs, &spec.dims) {
                Ok(tensor) => values.push(tensor),
                Err(problem) => problems.push(format!("`{theirs}`: {problem}")),
            },
            Err(problem) => problems.push(problem),
        }
    }
    let left = names.left_over(layout.network(), &file);
    problems.extend(
        left.iter()
            .map(|name| format!("`{name}` belongs to no layer")),
    );
    if !problems.is_empty() {
        let more = match problems.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        problems.truncate(MOST_NAMED);
        let reason = format!(
            "its tensors are not those of {network} as {}: {}{more}",
            names.naming.help,
            problems.join("; ")
        );
        return Err(unusable(reason));
    }
    Ok(Imported {
        classes: classes.unwrap_or(1),
        layout,
        values: HostState::new(values),
    })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::model::network::NetworkKind;
    use crate::system::sha256;

    #[test]
    fn the_published_networks_of_version_1_have_the_tensors_of_torchvisions() {
        // tests/fixtures/make_torchvision_fixtures.py prints the sums.
        for (name, sum) in [
            (
                "resnet18-v1",
                "efcc90900c7214aafe8c0a0b765a178f4f6b2b56c8b1e34540aff9ed80b6ec0b",
            ),
            (
                "resnet34-v1",
                "27a12c09c7f34a1f8755510e3af84ed712fc4215d3055ffdd0c2b990f9d9a5d3",
            ),
            (
                "resnet50-v1",
                "138c8c8ccc17d9f25c0282a4065ad8424d459404032559d37c2a74e47ac72bf3",
            ),
            (
                "resnet101-v1",
                "a89f774f7adb318e7caeb2b7f52028851ab4e3332dcc16867d3623c384143a19",
            ),
        ] {
            let network = Network {
                kind: NetworkKind::from_str(name, false).unwrap(),
                ..Network::resnet_v2(11)
            };
            let layout = network.layout(1000, &[]).unwrap();
            // A file without any tensor, so that the naming is the network's own.
            let no_tensors: [(&str, TensorView); 0] = [];
            let empty = safetensors::serialize(no_tensors, None).unwrap();
            let names = Names::of(layout.network(), &SafeTensors::deserialize(&empty).unwrap());
            let specs = layout.network().iter();
            let mut lines: Vec<_> = specs
                .map(|spec| {
                    let name = names.theirs(&spec.name).unwrap();
                    format!("{name} {:?}\n", tensors::theirs(&spec.dims))
                })
                .collect();
            lines.sort();
            assert_eq!(sha256::sum(lines.concat().as_bytes()), sum, "{name}");
        }
    }
}
