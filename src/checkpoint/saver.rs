//! Writes checkpoints on a thread of its own, so that training goes on meanwhile.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use xla_graphs::Layout;

use super::{CheckpointError, CheckpointInfo, commit};
use crate::files::Disk;
use crate::state::HostState;

/// Writes checkpoints into one folder, one after the other, and removes old ones.
pub struct Saver {
    jobs: Sender<Job>,
    thread: JoinHandle<Result<(), CheckpointError>>,
}

struct Job {
    state: HostState,
    info: CheckpointInfo,
}

impl Saver {
    /// Starts the thread that writes into `folder` and keeps the newest `keep` checkpoints.
    pub fn start(folder: PathBuf, keep: usize, layout: Layout) -> Result<Self> {
        // One job may wait while another is written: more would only fill the memory.
        let (jobs, queue) = bounded(1);
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || write_all(&folder, keep, &layout, &queue))
            .context("starting the checkpoint thread")?;
        Ok(Self { jobs, thread })
    }

    /// Hands over a checkpoint to be written, and returns before it is.
    ///
    /// # Errors
    /// The failure of an earlier checkpoint, which ended the thread.
    pub fn save(self, state: HostState, info: CheckpointInfo) -> Result<Self> {
        match self.jobs.send(Job { state, info }) {
            Ok(()) => Ok(self),
            Err(_) => {
                self.finish()?;
                anyhow::bail!("the checkpoint thread has ended early")
            }
        }
    }

    /// Waits until every checkpoint is on disk.
    pub fn finish(self) -> Result<()> {
        drop(self.jobs);
        match self.thread.join() {
            Ok(result) => Ok(result?),
            Err(_) => anyhow::bail!("the checkpoint thread panicked"),
        }
    }
}

fn write_all(
    folder: &std::path::Path,
    keep: usize,
    layout: &Layout,
    queue: &Receiver<Job>,
) -> Result<(), CheckpointError> {
    for job in queue {
        let path = commit(&Disk, folder, keep, layout.state(), &job.state, &job.info)?;
        log::debug!("saved {}", path.display());
    }
    Ok(())
}
