//! Where a trained network comes from.

use std::path::{Path, PathBuf};

use xla_graphs::Layout;

use super::{
    CheckpointError, CheckpointInfo, WeightsChoice, load_chosen, load_info, resolve, shipped,
};
use crate::model::state::HostState;

/// A checkpoint and what it says of itself.
pub struct Source {
    /// `None`: the network that comes with the program.
    path: Option<PathBuf>,
    pub info: CheckpointInfo,
}

impl Source {
    /// The checkpoint that `path` means: itself, or the newest one in a run's folder.
    pub fn at(path: &Path) -> Result<Self, CheckpointError> {
        let path = resolve(path)?;
        let info = load_info(&path)?;
        Ok(Self {
            path: Some(path),
            info,
        })
    }

    /// The network that comes with the program.
    pub fn shipped() -> Result<Self, CheckpointError> {
        Ok(Self {
            path: None,
            info: shipped::info()?,
        })
    }

    /// The file; `None` if it is inside the program.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its weights and moving statistics, in the order of [`Layout::network`].
    pub fn weights(
        &self,
        layout: &Layout,
        choice: Option<WeightsChoice>,
    ) -> Result<HostState, CheckpointError> {
        match &self.path {
            Some(path) => load_chosen(path, layout, &self.info, choice),
            None => shipped::network(layout, choice),
        }
    }
}
