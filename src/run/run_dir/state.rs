//! Whether a run goes on.

use std::fmt;

use serde::Deserialize;

use super::RunDir;
use crate::system::files;
use crate::system::lock;

/// A longer file is no result.
const RESULT_LIMIT: u64 = 16 << 20;

/// What has become of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A process has locked its folder.
    Running { pid: String },
    /// Nobody works on it, and it has no result.
    Interrupted,
    /// It has a result, but `--max-steps` ended it at `step` of `all` steps.
    Stopped { step: u64, all: u64 },
    /// It has a result.
    Done,
}

/// What `result.json` says of where a run ended.
#[derive(Deserialize)]
struct End {
    steps: u64,
    /// Older results do not have it.
    all_steps: Option<u64>,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Running { .. } => "running",
            Self::Interrupted => "interrupted",
            Self::Stopped { .. } => "stopped",
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
            true => self.end(),
            false => RunState::Interrupted,
        }
    }

    /// How a run with a result has ended. One whose result says nothing of its steps counts as done.
    fn end(&self) -> RunState {
        let text = files::read_text(&self.result(), RESULT_LIMIT).unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(End {
                steps,
                all_steps: Some(all),
            }) if steps < all => RunState::Stopped { step: steps, all },
            _ => RunState::Done,
        }
    }
}
