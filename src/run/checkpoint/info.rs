//! What a checkpoint records besides its tensors.

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::data::{self, DatasetKind, DatasetSpec, Normalization};
use crate::model::metrics::Mean;
use crate::model::network::{BlockChoice, Network, NetworkKind, StageUnits, Widths};
use crate::model::optimisers::OptimiserKind;

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
    /// The instruction set that the CPU's kernels were chosen by, or the kind of a device without them; `None`: in an older
    /// checkpoint, or in one without a run.
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
