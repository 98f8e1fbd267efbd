//! `kill -9`, over and over, at random moments and in the middle of writing a checkpoint.
//!
//! `RESNET_XLA_KILL_ROUNDS=200 cargo test --release --test kill -- --nocapture` is the long form.

mod program;

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use program::runs::{assert_same_end, checkpoints, finish, signal, start};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use resnet_xla::checkpoint::{file_name, load_newest};
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

const ROUNDS: &str = "RESNET_XLA_KILL_ROUNDS";
const ROUNDS_IN_CI: u64 = 8;
/// A checkpoint after every step: one is being written most of the time.
const EVERY_STEP: [&str; 2] = ["--checkpoint-every", "1"];

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    AfterStart(Duration),
    /// So long after its first checkpoint.
    AfterCheckpoint(Duration),
    /// As soon as a half-written checkpoint is seen.
    WhileWriting,
}

impl Moment {
    fn random(rng: &mut impl Rng) -> Self {
        let kind = rng.next_u32() % 4;
        let mut delay = |limit: u32| Duration::from_millis(u64::from(rng.next_u32() % limit));
        match kind {
            0 => Self::AfterStart(delay(2500)),
            1 => Self::AfterCheckpoint(delay(500)),
            _ => Self::WhileWriting,
        }
    }

    /// Waits for the moment; `false` when the process ended before it came.
    fn wait(self, child: &mut Child, run: &Path) -> bool {
        let before = newest_name(run);
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            match self {
                Self::AfterStart(delay) => {
                    sleep(delay);
                    return child.try_wait().unwrap().is_none();
                }
                Self::AfterCheckpoint(delay) if newest_name(run) != before => {
                    sleep(delay);
                    return child.try_wait().unwrap().is_none();
                }
                Self::WhileWriting if half_written(run) => return true,
                _ => sleep(Duration::from_micros(200)),
            }
        }
    }
}

#[test]
fn killed_in_every_round_a_run_loses_no_committed_step_and_ends_with_the_same_bits() {
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_IN_CI, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    finish(&reference, &EVERY_STEP);
    let run = folder.path().join("run");
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (mut kills, mut while_writing, mut ends) = (0, 0, 0);
    while kills < rounds {
        let moment = Moment::random(&mut rng);
        let committed = committed_step(&run);
        let mut child = begin_or_resume(&run, committed);
        if !moment.wait(&mut child, &run) {
            assert!(child.wait().unwrap().success(), "{moment:?}");
            assert_same_end(&run, &reference);
            fs::remove_dir_all(&run).unwrap();
            ends += 1;
            continue;
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        kills += 1;
        while_writing += u64::from(half_written(&run));
        let left = committed_step(&run);
        assert!(
            left >= committed,
            "{moment:?}: step {left:?} after {committed:?}"
        );
    }
    // The last run is not left half-way.
    if run.exists() {
        let committed = committed_step(&run);
        assert!(begin_or_resume(&run, committed).wait().unwrap().success());
        assert_same_end(&run, &reference);
        ends += 1;
    }
    println!(
        "{kills} kills, {while_writing} of them with a half-written checkpoint left, {ends} runs to the same end"
    );
    assert!(while_writing > 0, "no kill hit the writing of a checkpoint");
}

fn begin_or_resume(run: &Path, committed: Option<u64>) -> Child {
    match committed {
        // Killed before its first checkpoint, a run has to begin again.
        None => start(run, &[&EVERY_STEP[..], &["--overwrite"]].concat()),
        Some(_) => start(run, &[&EVERY_STEP[..], &["--resume"]].concat()),
    }
}

/// The step of the run's newest checkpoint, which must be whole: every file under its final name is.
fn committed_step(run: &Path) -> Option<u64> {
    let name = newest_name(run)?;
    let architecture = Architecture::resnet_v2(11).unwrap();
    let network = ResNet::new(&architecture, 10, Lowering::Dots).unwrap();
    let layout = Layout::new(network.tensors(), &["momentum"]);
    let (_, info) = load_newest(&run.join("checkpoints"), &layout).unwrap();
    let step = info.position.step;
    assert_eq!(name, file_name(step), "the newest checkpoint is damaged");
    Some(step)
}

fn newest_name(run: &Path) -> Option<String> {
    let newest = checkpoints(run).pop()?;
    Some(newest.file_name()?.to_str()?.to_owned())
}

/// Whether a checkpoint is being written, or was when the run was killed.
fn half_written(run: &Path) -> bool {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
}
