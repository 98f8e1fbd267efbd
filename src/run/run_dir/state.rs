//! Whether a run goes on.

use std::fmt;

use super::RunDir;
use crate::system::lock;

/// What has become of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A process has locked its folder.
    Running { pid: String },
    /// Nobody works on it, and it has no result.
    Interrupted,
    /// It has a result.
    Done,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Running { .. } => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
        })
    }
}

impl RunDir {
    /// What has become of the run. On a file system without locks, one that goes on counts as interrupted.
    pub fn state(&self) -> RunState {
        match lock::holder(&self.root.join(super::LOCK)) {
            Ok(Some(pid)) => return RunState::Running { pid },
            Ok(None) => {}
            Err(error) => log::warn!(
                "cannot tell whether {} is in use: {error}",
                self.root.display()
            ),
        }
        match self.result().is_file() {
            true => RunState::Done,
            false => RunState::Interrupted,
        }
    }
}
