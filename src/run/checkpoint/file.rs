//! One checkpoint file: tensors by name, the other facts that a reader needs, and a digest of both.

use std::collections::HashMap;
use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};
use half::bf16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use xla_graphs::{GraphError, Layout, TensorSpec, average};

use super::{CheckpointError, CheckpointInfo, foreign};
use crate::data;
use crate::model::optimisers::OptimiserSettings;
use crate::model::state::HostState;
use crate::system::files::{self, Disk, Storage};
use crate::system::limits::check_depth;
use crate::system::sha256;

/// The metadata key that holds [`CheckpointInfo`] as JSON.
const INFO_KEY: &str = "resnet-xla";
/// The metadata key of the SHA-256 sum over the info and all tensors, in the order of the layout.
const DIGEST_KEY: &str = "sha256";

/// Longer files are not read.
const MAX_LEN: u64 = 1 << 30;
/// Nor are files with a longer header: its table takes many times its size in memory.
const MAX_HEADER_LEN: u64 = 16 << 20;

/// Refuses a `layout` whose checkpoints would be too long to be read again.
///
/// # Errors
/// [`GraphError::Shape`].
pub fn check_len(layout: &Layout) -> Result<(), GraphError> {
    let values: usize = layout.state().iter().map(TensorSpec::len).sum();
    let (most, got) = (MAX_LEN - MAX_HEADER_LEN, 4 * values as u64);
    match got <= most {
        true => Ok(()),
        false => Err(GraphError::Shape {
            what: "checkpoints",
            expected: format!(
                "at most {most} bytes: fewer classes, no --ema, or an --optimizer that keeps less for each weight"
            ),
            got: got.to_string(),
        }),
    }
}

/// Writes the tensors `specs` with the values in `state` to `path`, atomically.
pub(super) fn save(
    storage: &impl Storage,
    path: &Path,
    specs: &[TensorSpec],
    state: &HostState,
    info: &CheckpointInfo,
) -> Result<(), CheckpointError> {
    save_as(storage, path, specs, state, info, Dtype::F32)
}

/// [`save`] as `dtype`, F32 or BF16, which must hold the values exactly: the digest is of the values in f32.
pub(super) fn save_as(
    storage: &impl Storage,
    path: &Path,
    specs: &[TensorSpec],
    state: &HostState,
    info: &CheckpointInfo,
    dtype: Dtype,
) -> Result<(), CheckpointError> {
    let unwritable = |reason: String| format_error(path, reason);
    let info = serde_json::to_string(info).map_err(|e| unwritable(e.to_string()))?;
    let stored = |values: &Vec<f32>| match dtype {
        Dtype::BF16 => values
            .iter()
            .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
            .collect(),
        _ => to_bytes(values),
    };
    let tensors: Vec<Vec<u8>> = state.values().iter().map(stored).collect();
    let mut views = Vec::with_capacity(tensors.len());
    let mut digest = Sha256::new_with_prefix(&info);
    for ((spec, bytes), values) in specs.iter().zip(&tensors).zip(state.values()) {
        digest.update(to_bytes(values));
        let view = TensorView::new(dtype, spec.dims.clone(), bytes)
            .map_err(|e| unwritable(e.to_string()))?;
        views.push((spec.name.as_str(), view));
    }
    let metadata = HashMap::from([
        (INFO_KEY.to_owned(), info),
        (DIGEST_KEY.to_owned(), sha256::finish(digest)),
    ]);
    let file =
        safetensors::serialize(views, Some(metadata)).map_err(|e| unwritable(e.to_string()))?;
    Ok(files::write_bytes_to(storage, path, &file)?)
}

/// The info of the checkpoint at `path`.
pub fn load_info(path: &Path) -> Result<CheckpointInfo, CheckpointError> {
    parse_info(path, &metadata(path, &read(&Disk, path)?)?)
}

/// [`load_info`], once every bit of the checkpoint is checked against its digest.
pub(super) fn load_checked_info(path: &Path) -> Result<CheckpointInfo, CheckpointError> {
    let info = load_info(path)?;
    // The optimiser's settings change how its slots move, not which there are.
    let optimiser = OptimiserSettings {
        kind: info.optimizer,
        ..OptimiserSettings::sgd(0.0)
    };
    let mut slots = optimiser.rule().slots().to_vec();
    slots.extend(info.averages.then_some(average::SLOT));
    let layout = info
        .network()
        .layout(info.spec.classes(), &slots)
        .map_err(|error| format_error(path, error.to_string()))?;
    let (_, info) = load(&Disk, path, layout.state())?;
    Ok(info)
}

/// The tensors `specs`, which must be all that the checkpoint at `path` was written with, and its info.
/// Every bit is checked against the digest.
pub(super) fn load(
    storage: &impl Storage,
    path: &Path,
    specs: &[TensorSpec],
) -> Result<(HostState, CheckpointInfo), CheckpointError> {
    let bytes = read(storage, path)?;
    let metadata = metadata(path, &bytes)?;
    let state = tensors(path, &bytes, specs)?;
    let mut digest = Sha256::new_with_prefix(entry(path, &metadata, INFO_KEY)?);
    for values in state.values() {
        digest.update(to_bytes(values));
    }
    let (expected, got) = (entry(path, &metadata, DIGEST_KEY)?, sha256::finish(digest));
    if *expected != got {
        let reason = format!("its content has the SHA-256 sum {got}, expected {expected}");
        return Err(format_error(path, reason));
    }
    Ok((state, parse_info(path, &metadata)?))
}

pub(super) fn read(storage: &impl Storage, path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let bytes = storage.read(path, MAX_LEN);
    let bytes = bytes.map_err(|reason| CheckpointError::Read {
        path: path.to_owned(),
        reason,
    })?;
    // The file begins with the length of its header.
    let header = bytes
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first));
    if let Some(what) = foreign::description(path, &bytes) {
        return Err(format_error(path, what));
    }
    if header > MAX_HEADER_LEN {
        let reason = format!("its header has {header} bytes, expected at most {MAX_HEADER_LEN}");
        return Err(format_error(path, reason));
    }
    Ok(bytes)
}

pub(super) fn metadata(
    path: &Path,
    bytes: &[u8],
) -> Result<HashMap<String, String>, CheckpointError> {
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| format_error(path, e.to_string()))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

fn entry<'a>(
    path: &Path,
    metadata: &'a HashMap<String, String>,
    key: &str,
) -> Result<&'a String, CheckpointError> {
    let missing = || format_error(path, format!("its metadata has no `{key}` entry"));
    metadata.get(key).ok_or_else(missing)
}

pub(super) fn parse_info(
    path: &Path,
    metadata: &HashMap<String, String>,
) -> Result<CheckpointInfo, CheckpointError> {
    let text = entry(path, metadata, INFO_KEY)?;
    let wrong = |reason: String| format_error(path, format!("its `{INFO_KEY}` entry: {reason}"));
    let info: CheckpointInfo = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    check_depth(info.depth)
        .map_err(|expected| wrong(format!("its depth is {}, {expected}", info.depth)))?;
    let network = info.network().architecture();
    network.map_err(|error| wrong(error.to_string()))?;
    data::check_spec(&info.spec).map_err(|reason| wrong(format!("its data set has {reason}")))?;
    Ok(info)
}

/// The tensors `specs` in the file `bytes`; `path` is its name in errors.
pub(super) fn tensors(
    path: &Path,
    bytes: &[u8],
    specs: &[TensorSpec],
) -> Result<HostState, CheckpointError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format_error(path, e.to_string()))?;
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
        expected: format!("F32 or BF16 {:?}", spec.dims),
        got,
    };
    let view = tensors
        .tensor(&spec.name)
        .map_err(|_| wrong("no such tensor".to_owned()))?;
    match view.dtype() {
        Dtype::F32 if view.shape() == spec.dims => {
            let mut values = vec![0.0; spec.len()];
            LittleEndian::read_f32_into(view.data(), &mut values);
            Ok(values)
        }
        Dtype::BF16 if view.shape() == spec.dims => {
            let (pairs, _) = view.data().as_chunks();
            Ok(pairs
                .iter()
                .map(|pair| bf16::from_le_bytes(*pair).to_f32())
                .collect())
        }
        other => Err(wrong(format!("{other:?} {:?}", view.shape()))),
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    LittleEndian::write_f32_into(values, &mut bytes);
    bytes
}

pub(super) fn format_error(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a checkpoint said of itself before it named its classes, written by the program of then.
    const OLD: &str = r#"{"version":"0.1.0","depth":11,"l2":0.0001,"dataset":"sample","normalization":{"mean":[125.58027,123.40982,114.1207],"std":[62.624638,61.836563,66.51726]},"config":"depth = 11\n","replicas":1,"position":{"step":2,"epoch":0,"step_in_epoch":2,"mean":{"loss_sum":85.59727811813354,"correct":2.0,"count":32.0},"non_finite":0,"non_finite_in_a_row":0}}"#;

    fn parsed(info: &str) -> Result<CheckpointInfo, String> {
        let metadata = HashMap::from([(INFO_KEY.to_owned(), info.to_owned())]);
        parse_info(Path::new("file"), &metadata).map_err(|error| error.to_string())
    }

    #[test]
    fn a_checkpoint_that_names_no_classes_has_those_of_cifar_10() {
        let info = parsed(OLD).unwrap();
        assert_eq!(info.position.step, 2);
        assert_eq!((info.spec.side, info.spec.classes()), (32, 10));
        assert_eq!(info.spec.class_names[9], "truck");
    }

    #[test]
    fn classes_that_are_named_are_taken_as_they_are_named() {
        let mut info: Value = serde_json::from_str(OLD).unwrap();
        info["spec"] = json!({"side": 32, "class_names": ["rose", "thistle"]});
        let spec = parsed(&info.to_string()).unwrap().spec;
        assert_eq!(spec.class_names, ["rose", "thistle"]);
    }

    #[test]
    fn images_and_classes_that_nothing_can_be_done_with_are_refused() {
        let many = vec!["x"; 65_536];
        for (spec, expected) in [
            (
                json!({"side": 1024, "class_names": ["a"]}),
                "images of 1024 x 1024 pixels, expected 4 x 4 to 512 x 512",
            ),
            (
                json!({"side": 32, "class_names": []}),
                "0 classes, expected 1 to 65535",
            ),
            (
                json!({"side": 32, "class_names": many}),
                "65536 classes, expected 1 to 65535",
            ),
            (
                json!({"side": 32, "class_names": ["a", "b\u{1b}[2J"]}),
                r#"the class "b\u{1b}[2J", expected a name without control characters"#,
            ),
        ] {
            let mut info: Value = serde_json::from_str(OLD).unwrap();
            info["spec"] = spec;
            let error = parsed(&info.to_string()).unwrap_err();
            let expected = format!(
                "file is not a usable checkpoint: its `resnet-xla` entry: its data set has {expected}"
            );
            assert_eq!(error, expected);
        }
    }
}
