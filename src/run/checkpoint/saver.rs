//! Writes checkpoints on a thread of its own, so that training goes on meanwhile.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use xla_graphs::Layout;

use super::{CheckpointError, CheckpointInfo, commit};
use crate::model::state::HostState;
use crate::system::files::Disk;

/// Writes checkpoints into one folder, one after the other, and removes old ones. Dropping it waits until they are
/// on disk, so a state that was copied off a device survives the loss of that device.
pub struct Saver {
    /// `None` once no more checkpoints will come.
    jobs: Option<Sender<Job>>,
    /// The other end of `jobs`, which the thread takes from.
    waiting: Receiver<Job>,
    /// `None` once it was joined.
    thread: Option<JoinHandle<Result<(), CheckpointError>>>,
}

struct Job {
    state: HostState,
    info: CheckpointInfo,
}

impl Saver {
    /// Starts the thread that writes into `folder` and keeps the newest `keep` checkpoints.
    pub fn start(folder: PathBuf, keep: usize, layout: Layout) -> Result<Self> {
        // One job may wait while another is written. More would only fill the memory.
        let (jobs, waiting) = bounded(1);
        let queue = waiting.clone();
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || write_all(&folder, keep, &layout, &queue))
            .context("starting the checkpoint thread")?;
        Ok(Self {
            jobs: Some(jobs),
            waiting,
            thread: Some(thread),
        })
    }

    /// Hands over a checkpoint and returns at once, however slow the disk is. A checkpoint that is still waiting
    /// its turn is dropped in favour of the newer one.
    ///
    /// # Errors
    /// The failure of an earlier checkpoint, which ended the thread.
    pub fn save(&mut self, state: HostState, info: CheckpointInfo) -> Result<()> {
        let Some(jobs) = self.jobs.as_ref().filter(|_| !self.has_ended()) else {
            self.wait()?;
            anyhow::bail!("the checkpoint thread has ended early")
        };
        let mut job = Job { state, info };
        // Nobody else sends, so there is room once the waiting one is out.
        while let Err(full) = jobs.try_send(job) {
            job = full.into_inner();
            if let Ok(older) = self.waiting.try_recv() {
                let step = older.info.position.step;
                log::warn!(
                    "the disk is slow: the checkpoint after step {step} gave way to the next"
                );
            }
        }
        Ok(())
    }

    /// Waits until every checkpoint is on disk. Nothing can be saved afterwards.
    pub fn finish(&mut self) -> Result<()> {
        self.wait()
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(&mut self) -> Result<()> {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => Ok(result?),
            Some(Err(_)) => anyhow::bail!("the checkpoint thread panicked"),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // A thread is left here only if the run has already failed, and the run reports that first error.
        if let Err(error) = self.wait() {
            log::warn!("{error}");
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

#[cfg(test)]
mod tests {
    use xla_graphs::ops::Lowering;
    use xla_graphs::{Architecture, ResNet};

    use super::*;
    use crate::run::checkpoint::load_newest;

    fn layout() -> Layout {
        let architecture = Architecture::resnet_v2(11).unwrap();
        let network = ResNet::new(&architecture, 10, Lowering::Dots).unwrap();
        Layout::new(network.tensors(), &["momentum"])
    }

    fn zeros(layout: &Layout) -> HostState {
        let zeros = |spec: &xla_graphs::TensorSpec| vec![0.0; spec.len()];
        HostState::new(layout.state().iter().map(zeros).collect())
    }

    #[test]
    fn what_was_handed_over_is_on_disk_once_the_saver_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout();
        let mut saver = Saver::start(folder.path().to_owned(), 2, layout.clone()).unwrap();
        let mut info = CheckpointInfo::example(11);
        info.position.step = 7;
        saver.save(zeros(&layout), info.clone()).unwrap();
        drop(saver);
        let (_, saved) = load_newest(folder.path(), &layout).unwrap();
        assert_eq!(saved, info);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let layout = layout();
        let mut saver = Saver::start(gone.clone(), 2, layout.clone()).unwrap();
        let info = CheckpointInfo::example(11);
        saver.save(zeros(&layout), info).unwrap();
        let error = saver.finish().unwrap_err().to_string();
        assert!(error.contains(gone.to_str().unwrap()), "{error}");
    }
}
