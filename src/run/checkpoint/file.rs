//! One checkpoint file: tensors by name, the other facts that a reader needs, and a digest of both.

use std::collections::HashMap;
use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};
use half::bf16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xla_graphs::table::{Role, slot_name};
use xla_graphs::{Layout, TensorSpec, average};

use super::{CheckpointError, foreign};
use crate::data::{self, DatasetKind, DatasetSpec, Normalization};
use crate::model::metrics::Mean;
use crate::model::network::{BlockChoice, Network, NetworkKind, StageUnits, Widths};
use crate::model::optimisers::{OptimiserKind, OptimiserSettings};
use crate::model::state::HostState;
use crate::system::files::{self, Disk, Storage};
use crate::system::limits::check_depth;
use crate::system::sha256;

/// The metadata key that holds [`CheckpointInfo`] as JSON.
const INFO_KEY: &str = "resnet-xla";
/// The metadata key of the SHA-256 sum over the info and all tensors, in the order of the layout.
const DIGEST_KEY: &str = "sha256";

/// Longer files are not read. The deepest network's checkpoint fits.
const MAX_LEN: u64 = 1 << 30;
/// Nor are files with a longer header: its table takes many times its size in memory.
const MAX_HEADER_LEN: u64 = 16 << 20;

/// Which weights of a run to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsChoice {
    /// Those after the last step
    Last,
    /// Their average over the steps, which a run with --ema keeps
    Average,
}

/// What a checkpoint records besides its tensors. A file from another program
/// (`scripts/keras_weights.py`) has no version, config or position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// The kind of the network; absent in older checkpoints, which are all `resnet-v2`.
    #[serde(default)]
    pub model: NetworkKind,
    /// Layers of the network.
    pub depth: usize,
    /// Channels of the stages of the kinds `fast` and `custom`; absent in older checkpoints, which all have the default.
    #[serde(default)]
    pub widths: Widths,
    /// Of the kind `custom`, which older checkpoints do not have.
    #[serde(default)]
    pub stage_units: StageUnits,
    /// Of the kind `custom`, which older checkpoints do not have.
    #[serde(default)]
    pub block: BlockChoice,
    /// The optimiser whose slots the checkpoint has; absent in older ones, which all have that of `sgd`.
    #[serde(default)]
    pub optimizer: OptimiserKind,
    /// Whether there is an average of the weights.
    #[serde(default)]
    pub averages: bool,
    /// Strength of the L2 penalty, part of the loss that evaluation prints.
    pub l2: f64,
    /// The images that the network was trained on.
    pub dataset: DatasetKind,
    /// What they were like.
    /// Absent in older checkpoints, which are all of CIFAR-10.
    #[serde(default = "data::cifar10_spec")]
    pub spec: DatasetSpec,
    /// The sum that tells them from other images; absent of the official data sets, which are verified, and in older
    /// checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sum: Option<String>,
    /// How they were normalised.
    pub normalization: Normalization,
    /// The run's settings, in the form of `config.toml`.
    #[serde(default)]
    pub config: String,
    /// Devices that shared each batch.
    #[serde(default = "one_replica")]
    pub replicas: usize,
    /// The instruction set that the CPU's kernels were chosen by; `None`: not on a CPU, or in an older checkpoint.
    #[serde(default)]
    pub instructions: Option<String>,
    #[serde(default)]
    pub position: Position,
}

impl CheckpointInfo {
    /// The network, without image size and classes.
    pub fn network(&self) -> Network {
        Network {
            kind: self.model,
            depth: self.depth,
            widths: self.widths,
            stage_units: self.stage_units,
            block: self.block,
        }
    }
}

#[cfg(any(test, fuzzing))]
impl CheckpointInfo {
    /// The info of a run that has not begun, for tests.
    pub fn example(depth: usize) -> Self {
        Self {
            version: "0".to_owned(),
            model: NetworkKind::RESNET_V2,
            depth,
            widths: Widths::default(),
            stage_units: StageUnits::default(),
            block: BlockChoice::default(),
            optimizer: OptimiserKind::Sgd,
            averages: false,
            l2: 1e-4,
            dataset: DatasetKind::Sample,
            spec: data::cifar10_spec(),
            data_sum: None,
            normalization: Normalization {
                mean: [1.0; 3],
                std: [2.0; 3],
            },
            config: String::new(),
            replicas: 1,
            instructions: None,
            position: Position::default(),
        }
    }
}

/// The replicas of a checkpoint from before they were recorded.
fn one_replica() -> usize {
    1
}

/// Where a run stands. With the state and the settings, this is all that the rest of the run depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Training steps taken in all.
    pub step: u64,
    /// The current epoch, from 0.
    pub epoch: usize,
    /// Steps taken in it.
    pub step_in_epoch: u64,
    /// Loss and accuracy over these steps.
    pub mean: Mean,
    /// Steps with a non-finite loss, which changed nothing.
    pub non_finite: u64,
    /// How many of them came since the last finite loss.
    pub non_finite_in_a_row: u32,
}

impl Position {
    /// Refuses a position that no run with `steps_per_epoch` can reach.
    pub fn check(&self, steps_per_epoch: u64) -> Result<(), CheckpointError> {
        // An epoch with all its steps taken stays the current one until it is evaluated.
        let before = (self.epoch as u64).checked_mul(steps_per_epoch);
        let fits = self.step_in_epoch <= steps_per_epoch
            && before.and_then(|before| before.checked_add(self.step_in_epoch)) == Some(self.step);
        if fits {
            return Ok(());
        }
        Err(CheckpointError::Position {
            step: self.step,
            epoch: self.epoch,
            step_in_epoch: self.step_in_epoch,
            steps_per_epoch,
        })
    }
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
fn save_as(
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

fn format_error(path: &Path, reason: String) -> CheckpointError {
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
