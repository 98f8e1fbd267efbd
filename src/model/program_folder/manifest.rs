//! What a folder of traced computations says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xla_graphs::ops::Lowering;
use xla_graphs::{Layout, Model, Precision};

use super::signature::Signature;
use super::{ProgramFolderError, Use};
use crate::device::DeviceKind;
use crate::model::choose::{self, LoweringChoice, ModelSettings, PrecisionChoice, UnitsChoice};

/// The file that it is in.
pub const MANIFEST: &str = "program.json";
const FORMAT: &str = "resnet-xla program";
/// Counts up when the files or what they mean change.
const VERSION: u64 = 1;
const THIS: &str = concat!("resnet-xla ", env!("CARGO_PKG_VERSION"));

/// The settings that evaluation and prediction do not read.
const TRAINING_ONLY: [&str; 8] = [
    "frozen",
    "batch_norm",
    "bn_momentum",
    "label_smoothing",
    "mixes_labels",
    "optimiser",
    "weight_decay",
    "averaging",
];

/// What the option is called that the field `name` of [`ModelSettings`] comes from.
fn option(name: &str) -> String {
    match name {
        "network" => "model".to_owned(),
        "frozen" => "freeze-until".to_owned(),
        "classes" => "dataset".to_owned(),
        "batch_norm" => "bn".to_owned(),
        "image_side" => "image-size".to_owned(),
        "mixes_labels" => "mixup or cutmix".to_owned(),
        "optimiser" => "optimizer".to_owned(),
        "averaging" => "ema".to_owned(),
        _ => name.replace('_', "-"),
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u64,
    written_by: String,
    /// The kind of device that the computations were made for.
    device: String,
    pub formulation: LoweringChoice,
    /// The version of the calls' plans, where the formulation calls kernels.
    kernels: Option<i32>,
    /// What shaped the computations, with nothing left to the device.
    pub settings: ModelSettings,
    /// All settings, as `-c` reads them.
    pub config: String,
    pub layout: Vec<StateArray>,
    computations: BTreeMap<String, Signature>,
}

/// An array of the state on a device, and the tensors in it, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateArray {
    name: String,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    name: String,
    dims: Vec<usize>,
}

/// The part that every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

impl Manifest {
    /// Of the computations of `settings`, made as `model` for devices of kind `device`; without signatures.
    pub fn new(
        settings: &ModelSettings,
        device: DeviceKind,
        model: &Model,
        config: String,
    ) -> Self {
        let formulation = LoweringChoice::from(model.network.stem.lowering);
        let precision = match model.network.precision {
            Precision::F32 => PrecisionChoice::F32,
            Precision::Bf16 => PrecisionChoice::Bf16,
        };
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            written_by: THIS.to_owned(),
            device: device.to_string(),
            kernels: (formulation == LoweringChoice::Kernels).then_some(cpu_kernels::PLAN_VERSION),
            formulation,
            settings: ModelSettings {
                precision: Some(precision),
                units: Some(settings.units.unwrap_or(UnitsChoice::Unrolled)),
                ..*settings
            },
            config,
            layout: layout_of(&model.layout()),
            computations: BTreeMap::new(),
        }
    }

    /// Adds the signature of the computation `name`.
    pub fn sign(&mut self, name: &str, hlo: &[u8]) -> Result<()> {
        let signature = Signature::of(hlo).with_context(|| format!("reading {name}"))?;
        self.computations.insert(name.to_owned(), signature);
        Ok(())
    }

    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The manifest in `text`, the content of `path`.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ProgramFolderError> {
        let wrong = |reason: String| ProgramFolderError::Content {
            path: path.to_owned(),
            reason,
        };
        let head: Head = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        if head.format != FORMAT {
            return Err(wrong(format!("its format is {:?}", head.format)));
        }
        if head.version != VERSION {
            return Err(ProgramFolderError::Version {
                folder: path.parent().unwrap_or(path).to_owned(),
                got: head.version,
                expected: VERSION,
                this: THIS,
            });
        }
        serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))
    }

    /// Refuses `asked` where the computations were made with others. What `asked` leaves open is no difference.
    pub fn check_settings(&self, folder: &Path, asked: &ModelSettings, used: Use) -> Result<()> {
        let asked = ModelSettings {
            precision: asked.precision.or(self.settings.precision),
            units: asked.units.or(self.settings.units),
            ..*asked
        };
        let (made, asked) = (
            serde_json::to_value(self.settings)?,
            serde_json::to_value(asked)?,
        );
        let differs = |(setting, made): (&String, &Value)| {
            let read = used == Use::Training || !TRAINING_ONLY.contains(&setting.as_str());
            (read && asked[setting] != *made).then(|| ProgramFolderError::Setting {
                folder: folder.to_owned(),
                setting: option(setting),
                made: made.to_string(),
                asked: asked[setting].to_string(),
            })
        };
        let difference = made.as_object().into_iter().flatten().find_map(differs);
        difference.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether `text` is the content of a manifest, of whatever version.
    pub fn is_one(text: &[u8]) -> bool {
        serde_json::from_slice::<Head>(text).is_ok_and(|head| head.format == FORMAT)
    }

    /// Refuses `hlo` as the computation `name`, read from `path`, if it is none or has another signature.
    pub fn check_signature(
        &self,
        path: &Path,
        name: &str,
        hlo: &[u8],
    ) -> Result<(), ProgramFolderError> {
        let reason = match Signature::of(hlo) {
            Ok(signature) if self.computations.get(name) == Some(&signature) => return Ok(()),
            Ok(_) => format!("its inputs and outputs are not those that {MANIFEST} has"),
            Err(error) => error.to_string(),
        };
        let path = path.to_owned();
        Err(ProgramFolderError::Content { path, reason })
    }

    /// Refuses a device that does not run the kernels which the computations call, or runs another version of them, and
    /// says of any other of another kind that they were not made for it.
    pub fn check_device(
        &self,
        folder: &Path,
        device: DeviceKind,
    ) -> Result<(), ProgramFolderError> {
        let Some(version) = self.kernels else {
            let best = match device {
                DeviceKind::CpuPluginWithKernels => DeviceKind::Cpu,
                other => other,
            };
            if self.device != best.to_string() {
                log::warn!(
                    "the program in {} was made for a device of kind {}, and this one is of kind {device}; one that is \
                     exported with --on {best} may be faster",
                    folder.display(),
                    self.device
                );
            }
            return Ok(());
        };
        let folder = folder.to_owned();
        let runs_kernels = choose::lowering(device) == Lowering::Kernels;
        let here = match (runs_kernels, device) {
            (true, _) if version == cpu_kernels::PLAN_VERSION => return Ok(()),
            (true, _) => format!("version {}", cpu_kernels::PLAN_VERSION),
            (false, DeviceKind::Cpu) => "none".to_owned(),
            (false, _) => {
                return Err(ProgramFolderError::Device {
                    folder,
                    version,
                    device,
                });
            }
        };
        let made = version;
        Err(ProgramFolderError::Kernels { folder, made, here })
    }
}

/// The arrays of the state, as a manifest has them.
pub fn layout_of(layout: &Layout) -> Vec<StateArray> {
    let arrays = layout.arrays().into_iter();
    let tensors = |array| {
        let tensors = layout.tensors_of(array).into_iter();
        let tensor = |spec: &xla_graphs::TensorSpec| Tensor {
            name: spec.name.clone(),
            dims: spec.dims.clone(),
        };
        tensors.map(tensor).collect()
    };
    arrays
        .map(|array| StateArray {
            name: array.name().to_owned(),
            tensors: tensors(array),
        })
        .collect()
}
