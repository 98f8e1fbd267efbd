//! Checkpoints: the training state as one `.safetensors` file per save.
//!
//! Tensors have the layout's names, so any safetensors reader can use them. Everything else that a later
//! `eval`, `predict` or `--resume` needs is JSON text under one metadata key. A checkpoint is
//! committed by a rename, so it is either complete or absent.

mod file;
mod foreign;
mod info;
mod saver;
mod shipped;
mod source;
mod weights;

#[cfg(test)]
mod power_cuts;

use std::path::{Path, PathBuf};

use xla_graphs::{Layout, TensorSpec};

pub use file::{check_len, load_info};
pub use info::{CheckpointInfo, Position};
pub use saver::Saver;
pub use source::Source;
pub use weights::{WeightsChoice, load_chosen, load_into, load_network, save_network};

use crate::model::state::HostState;
use crate::system::files::{Disk, Storage};

const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// A checkpoint that cannot be written, found or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot read the checkpoint {path}: {reason}")]
    Read {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error(
        "there is no checkpoint {path}: train first, or name a run's folder or a .safetensors file with --checkpoint"
    )]
    Missing { path: PathBuf },
    #[error("{path} is not a usable checkpoint: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error(
        "{path}: tensor `{name}`: expected {expected}, got {got}; is it a checkpoint of another network?"
    )]
    Tensor {
        path: PathBuf,
        name: String,
        expected: String,
        got: String,
    },
    #[error(
        "no checkpoint in {folder}: train first, or name a .safetensors file with --checkpoint"
    )]
    None { folder: PathBuf },
    #[error(
        "the checkpoint says that the run is at step {step}, {step_in_epoch} steps into epoch {epoch} (from 0), which does \
         not fit {steps_per_epoch} steps an epoch; resume with the data and the settings that the run began with"
    )]
    Position {
        step: u64,
        epoch: usize,
        step_in_epoch: u64,
        steps_per_epoch: u64,
    },
    #[error(
        "{path} has no average of the weights; leave out --weights, or name a checkpoint of a run with --ema"
    )]
    NoAverages { path: PathBuf },
    #[error("cannot remove the old checkpoint {path}: {reason}")]
    Prune {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error(transparent)]
    Write(#[from] crate::system::files::WriteError),
}

/// The name of the checkpoint taken after `step` steps.
pub fn file_name(step: u64) -> String {
    format!("{PREFIX}{step:08}{SUFFIX}")
}

/// The content of the safetensors file at `path`, which may be another program's.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    file::read(&Disk, path)
}

/// The checkpoint file that `path` means: itself, or the newest one in a run's folder.
pub fn resolve(path: &Path) -> Result<PathBuf, CheckpointError> {
    if !path.exists() {
        return Err(CheckpointError::Missing { path: path.into() });
    }
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let inner = path.join("checkpoints");
    let folder = if inner.is_dir() { inner } else { path.into() };
    let newest = list(&Disk, &folder)?.pop();
    newest.ok_or(CheckpointError::None { folder })
}

/// Loads the newest checkpoint in `folder` that is intact. A warning names each damaged one that is
/// skipped.
///
/// # Errors
/// [`CheckpointError::None`] if there is no checkpoint, and the newest one's error if all are damaged. A run
/// never starts afresh because of it.
pub fn load_newest(
    folder: &Path,
    layout: &Layout,
) -> Result<(HostState, CheckpointInfo), CheckpointError> {
    newest_of(&Disk, folder, layout.state())
}

/// [`load_newest`] for checkpoints that hold the tensors `specs`.
fn newest_of(
    storage: &impl Storage,
    folder: &Path,
    specs: &[TensorSpec],
) -> Result<(HostState, CheckpointInfo), CheckpointError> {
    let mut first_error = None;
    for path in list(storage, folder)?.iter().rev() {
        match file::load(storage, path, specs) {
            Ok(loaded) => {
                log::info!("going on from {}", path.display());
                return Ok(loaded);
            }
            Err(error) => {
                log::warn!("{error}");
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(CheckpointError::None {
        folder: folder.to_owned(),
    }))
}

/// The info of the newest intact checkpoint in `folder`.
///
/// # Errors
/// As [`load_newest`].
pub fn newest_info(folder: &Path) -> Result<CheckpointInfo, CheckpointError> {
    let mut first_error = None;
    for path in list(&Disk, folder)?.iter().rev() {
        match file::load_checked_info(path) {
            Ok(info) => return Ok(info),
            Err(error) => first_error.get_or_insert(error),
        };
    }
    Err(first_error.unwrap_or(CheckpointError::None {
        folder: folder.to_owned(),
    }))
}

/// How many checkpoints `folder` holds, intact or not; 0 if it cannot be read.
pub fn count(folder: &Path) -> usize {
    list(&Disk, folder).map_or(0, |all| all.len())
}

/// Writes a checkpoint into `folder` and returns its path. Only once it is on disk are the oldest removed,
/// until it and `keep` - 1 before it are left. Later ones stay: the run went back behind them because they are damaged.
fn commit(
    storage: &impl Storage,
    folder: &Path,
    keep: usize,
    specs: &[TensorSpec],
    state: &HostState,
    info: &CheckpointInfo,
) -> Result<PathBuf, CheckpointError> {
    let step = info.position.step;
    let path = folder.join(file_name(step));
    file::save(storage, &path, specs, state, info)?;
    prune(storage, folder, step, keep)?;
    Ok(path)
}

/// Removes the oldest checkpoints of `folder` until `keep` of those up to `step` are left.
fn prune(
    storage: &impl Storage,
    folder: &Path,
    step: u64,
    keep: usize,
) -> Result<(), CheckpointError> {
    let mut all = list(storage, folder)?;
    all.retain(|path| step_of(path) <= Some(step));
    for path in &all[..all.len().saturating_sub(keep)] {
        storage
            .remove(path)
            .map_err(|reason| CheckpointError::Prune {
                path: path.clone(),
                reason,
            })?;
    }
    Ok(())
}

/// The checkpoints of `folder`, oldest first; none if there is no such folder.
fn list(storage: &impl Storage, folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match storage.entries(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|reason| CheckpointError::Read {
            path: folder.to_owned(),
            reason,
        })?,
    };
    let with_step = |path: PathBuf| Some((step_of(&path)?, path));
    let mut found: Vec<_> = entries.into_iter().filter_map(with_step).collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The step in a checkpoint's file name; `None` for any other file.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::model::network::{Network, NetworkKind};

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_newest_is_the_one_of_the_highest_step_also_past_eight_digits() {
        let names = [
            "step-99999999.safetensors",
            "step-100000000.safetensors",
            "notes.txt",
        ];
        let folder = folder_with(&names);
        let newest = resolve(folder.path()).unwrap();
        assert_eq!(newest, folder.path().join("step-100000000.safetensors"));
    }

    #[test]
    fn pruning_removes_the_oldest_and_no_other_file() {
        let names: Vec<String> = [5, 10, 15, 20].map(file_name).to_vec();
        let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
        all.push("step-x.safetensors");
        let folder = folder_with(&all);
        prune(&Disk, folder.path(), 20, 2).unwrap();
        let left = list(&Disk, folder.path()).unwrap();
        assert_eq!(left, [15, 20].map(|s| folder.path().join(file_name(s))));
        assert!(folder.path().join("step-x.safetensors").exists());
    }

    #[test]
    fn later_checkpoints_are_not_counted_among_those_to_keep() {
        let names = [80, 85, 90, 100].map(file_name);
        let folder = folder_with(&names.each_ref().map(String::as_str));
        prune(&Disk, folder.path(), 85, 2).unwrap();
        assert_eq!(list(&Disk, folder.path()).unwrap().len(), 4);
        prune(&Disk, folder.path(), 85, 1).unwrap();
        let left = list(&Disk, folder.path()).unwrap();
        assert_eq!(
            left,
            [85, 90, 100].map(|s| folder.path().join(file_name(s)))
        );
    }

    #[test]
    fn a_network_whose_checkpoints_could_not_be_read_is_refused() {
        let network = Network {
            kind: NetworkKind::from_str("resnet101-v2", false).unwrap(),
            ..Network::resnet_v2(164)
        };
        let layout = |slots: &[&'static str]| network.layout(21_841, slots).unwrap();
        check_len(&layout(&["m", "v"])).unwrap();
        let error = check_len(&layout(&["m", "v", "average"])).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("at most 1056964608 bytes"), "{message}");
    }

    #[test]
    fn an_empty_folder_says_that_it_has_no_checkpoint() {
        let folder = folder_with(&[]);
        let error = resolve(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("no checkpoint in"), "{error}");
    }
}
