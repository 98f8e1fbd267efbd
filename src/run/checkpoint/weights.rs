//! The weights of a network without the rest of a run's state: written to a file, and taken from one.

use std::path::Path;

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use xla_graphs::table::{Role, slot_name};
use xla_graphs::{Layout, TensorSpec, average};

use super::file::{format_error, read, save, save_as, tensors};
use super::{CheckpointError, CheckpointInfo};
use crate::model::state::HostState;
use crate::system::files::Disk;

/// Which weights of a run to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsChoice {
    /// Those after the last step
    Last,
    /// Their average over the steps, which a run with --ema keeps
    Average,
}

/// Writes only the network's tensors ([`Layout::network`]) to `path`, as F32 or BF16. A run cannot resume from that.
pub fn save_network(
    path: &Path,
    layout: &Layout,
    weights: &HostState,
    info: &CheckpointInfo,
    dtype: Dtype,
) -> Result<(), CheckpointError> {
    if dtype != Dtype::BF16 {
        return save(&Disk, path, layout.network(), weights, info);
    }
    let round = |values: &Vec<f32>| values.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    let rounded = HostState::new(weights.values().iter().map(round).collect());
    save_as(&Disk, path, layout.network(), &rounded, info, dtype)
}

/// The weights and moving statistics in the safetensors file at `path`, in the order of
/// [`Layout::network`]; momentum, digest and info need not be there.
pub fn load_network(path: &Path, layout: &Layout) -> Result<HostState, CheckpointError> {
    tensors(path, &read(&Disk, path)?, layout.network())
}

/// [`load_network`] of the checkpoint with `info`, with the weights of the `choice`; by default the averages, where
/// there are any.
pub fn load_chosen(
    path: &Path,
    layout: &Layout,
    info: &CheckpointInfo,
    choice: Option<WeightsChoice>,
) -> Result<HostState, CheckpointError> {
    match (choice, info.averages) {
        (Some(WeightsChoice::Average), false) => Err(CheckpointError::NoAverages {
            path: path.to_owned(),
        }),
        (Some(WeightsChoice::Last), _) | (None, false) => load_network(path, layout),
        (Some(WeightsChoice::Average) | None, true) => {
            log::info!("taking the average of the weights");
            load_averages(path, layout)
        }
    }
}

/// [`load_network`] with the averages of the weights, which must be there, in the place of the last ones.
fn load_averages(path: &Path, layout: &Layout) -> Result<HostState, CheckpointError> {
    let stored = layout.network().iter().map(|spec| match spec.role {
        Role::Weight { .. } => TensorSpec {
            name: slot_name(average::SLOT, &spec.name),
            ..spec.clone()
        },
        _ => spec.clone(),
    });
    tensors(path, &read(&Disk, path)?, &stored.collect::<Vec<_>>())
}

/// `state` with the weights and moving statistics of the file at `path`; momentum stays as it is. Of a network with
/// another number of classes, all but the last layer is taken, and a line says so.
pub fn load_into(
    path: &Path,
    layout: &Layout,
    state: HostState,
) -> Result<HostState, CheckpointError> {
    let bytes = read(&Disk, path)?;
    let mut specs = layout.network();
    if let Some((theirs, ours)) = other_classes(path, &bytes, layout)? {
        log::info!(
            "{} is of {theirs} classes, and these images are of {ours}: all of it is taken but the last layer, which starts \
             as in a new run",
            path.display()
        );
        specs = &specs[..specs.len() - LAST_LAYER];
    }
    let network = tensors(path, &bytes, specs)?.into_values();
    let mut values = state.into_values();
    values.splice(..network.len(), network);
    Ok(HostState::new(values))
}

/// Tensors of a network's last layer, kernel and bias, which come last in [`Layout::network`].
const LAST_LAYER: usize = 2;

/// The classes of the network in the file `bytes`, and those of `layout`, if these are others: its last layer has the
/// same inputs and other outputs.
fn other_classes(
    path: &Path,
    bytes: &[u8],
    layout: &Layout,
) -> Result<Option<(usize, usize)>, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format_error(path, e.to_string()))?;
    let network = layout.network();
    let Some([kernel, bias]) = network.last_chunk::<LAST_LAYER>() else {
        return Ok(None);
    };
    let (Ok(found), Ok(found_bias)) = (file.tensor(&kernel.name), file.tensor(&bias.name)) else {
        return Ok(None);
    };
    Ok(match (found.shape(), found_bias.shape()) {
        (&[inputs, theirs], &[outputs]) if inputs == kernel.dims[0] && theirs == outputs => {
            (theirs != bias.dims[0]).then_some((theirs, bias.dims[0]))
        }
        _ => None,
    })
}
