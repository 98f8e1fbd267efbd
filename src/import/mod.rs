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
/// The file cannot be read, it has a network that differs from all that are here, or its tensors are not one by one those of the network: the first that are missing, have other
/// dimensions, or belong to nothing are named.
pub fn load(path: &Path, network: Network) -> Result<Imported, CheckpointError> {
    let unusable = |reason: String| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    };
    let bytes = checkpoint::read_bytes(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
    if let Some(other) = names::other(&file) {
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
