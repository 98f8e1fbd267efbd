//! One checkpoint file: tensors by name, and what else a reader must know.

use std::collections::HashMap;
use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use xla_graphs::{Layout, TensorSpec};

use super::CheckpointError;
use crate::data::{DatasetKind, Normalization};
use crate::files;
use crate::state::HostState;

/// The metadata key that holds [`CheckpointInfo`] as JSON.
const INFO_KEY: &str = "resnet-xla";

/// What a checkpoint says of itself besides its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Layers of the network.
    pub depth: usize,
    /// Strength of the L2 penalty, part of the loss that evaluation prints.
    pub l2: f64,
    /// Training steps taken.
    pub step: u64,
    /// Whole epochs finished.
    pub epoch: usize,
    /// The images that the network was trained on.
    pub dataset: DatasetKind,
    /// How they were normalised.
    pub normalization: Normalization,
}

/// Writes `state` with the names of `layout` to `path`, whole or not at all.
pub fn save(
    path: &Path,
    layout: &Layout,
    state: &HostState,
    info: &CheckpointInfo,
) -> Result<(), CheckpointError> {
    let format = |reason: String| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    };
    let text = serde_json::to_string(info).map_err(|e| format(e.to_string()))?;
    let metadata = HashMap::from([(INFO_KEY.to_owned(), text)]);
    let mut tensors = Vec::with_capacity(layout.state().len());
    for (spec, values) in layout.state().iter().zip(state.values()) {
        let mut bytes = vec![0; values.len() * size_of::<f32>()];
        LittleEndian::write_f32_into(values, &mut bytes);
        tensors.push((&spec.name, bytes));
    }
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, bytes), spec) in tensors.iter().zip(layout.state()) {
        let view = TensorView::new(Dtype::F32, spec.dims.clone(), bytes)
            .map_err(|e| format(e.to_string()))?;
        views.push((name.as_str(), view));
    }
    let file = safetensors::serialize(views, Some(metadata)).map_err(|e| format(e.to_string()))?;
    Ok(files::write_bytes(path, &file)?)
}

/// What the checkpoint at `path` says of itself.
pub fn load_info(path: &Path) -> Result<CheckpointInfo, CheckpointError> {
    let bytes = read(path)?;
    let format = |reason: String| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| format(e.to_string()))?;
    let text = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(INFO_KEY))
        .ok_or_else(|| format(format!("its metadata has no `{INFO_KEY}` entry")))?;
    serde_json::from_str(text).map_err(|e| format(format!("its `{INFO_KEY}` entry: {e}")))
}

/// The weights and moving statistics in the checkpoint at `path`, in the order of
/// [`Layout::network`]; momentum need not be there.
pub fn load_network(path: &Path, layout: &Layout) -> Result<HostState, CheckpointError> {
    load(path, layout.network())
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })
}

fn load(path: &Path, specs: &[TensorSpec]) -> Result<HostState, CheckpointError> {
    let bytes = read(path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::Format {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    let values = specs.iter().map(|spec| tensor(path, &tensors, spec));
    Ok(HostState::new(values.collect::<Result<_, _>>()?))
}

/// The values of `spec` among `tensors`, its type and dimensions checked.
fn tensor(
    path: &Path,
    tensors: &SafeTensors,
    spec: &TensorSpec,
) -> Result<Vec<f32>, CheckpointError> {
    let wrong = |got: String| CheckpointError::Tensor {
        path: path.to_owned(),
        name: spec.name.clone(),
        expected: format!("F32 {:?}", spec.dims),
        got,
    };
    let view = tensors
        .tensor(&spec.name)
        .map_err(|_| wrong("no such tensor".to_owned()))?;
    if view.dtype() != Dtype::F32 || view.shape() != spec.dims {
        return Err(wrong(format!("{:?} {:?}", view.dtype(), view.shape())));
    }
    let mut values = vec![0.0; spec.len()];
    LittleEndian::read_f32_into(view.data(), &mut values);
    Ok(values)
}

/// `state` with the weights and moving statistics of the file at `path`; momentum stays as it is.
pub fn load_into(
    path: &Path,
    layout: &Layout,
    state: HostState,
) -> Result<HostState, CheckpointError> {
    let network = load_network(path, layout)?.into_values();
    let mut values = state.into_values();
    values.splice(..network.len(), network);
    Ok(HostState::new(values))
}
