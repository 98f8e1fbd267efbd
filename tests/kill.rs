//! `kill -9`, over and over: in every other round while a checkpoint is half written, else at a random moment.
//!
//! `RESNET_XLA_KILL_ROUNDS=200 cargo test --release --test kill -- --nocapture` is the long form.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use program::plugins::cpu_plugin;
use program::runs::{assert_same_end, checkpoints, finish, run_with_checkpoints, signal};
use program::shims::HeldWrite;
use program::{program, text};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use resnet_xla::run::checkpoint::{file_name, load_newest};
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

const ROUNDS: &str = "RESNET_XLA_KILL_ROUNDS";
const ROUNDS_IN_CI: u64 = 8;
const ROUNDS_ON_A_PLUGIN_IN_CI: u64 = 2;
const EVERY_STEP: [&str; 2] = ["--checkpoint-every", "1"];

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    AfterStart(Duration),
    /// So long after its first checkpoint.
    AfterCheckpoint(Duration),
    /// While it stands still at this byte of a checkpoint, behind so many whole ones.
    InWrite { after: usize, byte: u64 },
}

impl Moment {
    fn random(rng: &mut impl Rng) -> Self {
        let kind = rng.next_u32() % 2;
        let mut delay = |limit: u32| Duration::from_millis(u64::from(rng.next_u32() % limit));
        match kind {
            0 => Self::AfterStart(delay(2500)),
            _ => Self::AfterCheckpoint(delay(500)),
        }
    }

    /// At any byte of a checkpoint of `len` bytes.
    fn in_write(rng: &mut impl Rng, len: u64) -> Self {
        Self::InWrite {
            after: rng.next_u32() as usize % 3,
            byte: rng.next_u64() % len,
        }
    }

    /// Waits for the moment; `false` when the process ended before it came.
    fn wait(self, child: &mut Child, run: &Path, disk: &HeldWrite) -> bool {
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
                Self::AfterCheckpoint(_) => sleep(Duration::from_micros(200)),
                Self::InWrite { .. } => return disk.wait(child),
            }
        }
    }
}

#[test]
fn killed_in_every_round_a_run_loses_no_committed_step_and_ends_with_the_same_bits() {
    kill(ROUNDS_IN_CI, &[]);
}

#[test]
fn so_does_a_run_on_a_plugin() {
    if let Some(plugin) = cpu_plugin() {
        kill(ROUNDS_ON_A_PLUGIN_IN_CI, &["--plugin", text(&plugin)]);
    }
}

/// Kills a run with the arguments `on` in as many rounds as the environment says, or else in `rounds`.
fn kill(rounds: u64, on: &[&str]) {
    let rounds = std::env::var(ROUNDS).map_or(rounds, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let disk = HeldWrite::new();
    let reference = folder.path().join("reference");
    finish(&reference, &[&EVERY_STEP, on].concat());
    // The header of an earlier step may be some bytes shorter.
    let len = fs::metadata(checkpoints(&reference).pop().unwrap())
        .unwrap()
        .len()
        - 1000;
    let run = folder.path().join("run");
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (mut kills, mut in_write, mut ends) = (0, 0, 0);
    while kills < rounds {
        let moment = match kills % 2 {
            0 => Moment::in_write(&mut rng, len),
            _ => Moment::random(&mut rng),
        };
        let committed = committed_step(&run);
        let mut child = begin_or_resume(&run, on, committed, moment, &disk);
        if !moment.wait(&mut child, &run, &disk) {
            assert!(child.wait().unwrap().success(), "{moment:?}");
            assert_same_end(&run, &reference);
            fs::remove_dir_all(&run).unwrap();
            ends += 1;
            continue;
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        kills += 1;
        if let Moment::InWrite { byte, .. } = moment {
            assert_eq!(half_written(&run), [byte]);
            disk.release();
            in_write += 1;
        }
        let left = committed_step(&run);
        assert!(
            left >= committed,
            "{moment:?}: step {left:?} after {committed:?}"
        );
    }
    // The last run is not left half-way.
    if run.exists() {
        let committed = committed_step(&run);
        let unhurt = Moment::AfterStart(Duration::ZERO);
        let mut child = begin_or_resume(&run, on, committed, unhurt, &disk);
        assert!(child.wait().unwrap().success());
        assert_same_end(&run, &reference);
        ends += 1;
    }
    println!(
        "{kills} kills, {in_write} of them with a half-written checkpoint left, {ends} runs to the same end"
    );
}

fn begin_or_resume(
    run: &Path,
    on: &[&str],
    committed: Option<u64>,
    moment: Moment,
    disk: &HeldWrite,
) -> Child {
    let mut command = program(&run_with_checkpoints(run));
    command.args(on).args(EVERY_STEP).arg(match committed {
        // Killed before its first checkpoint, a run has to begin again.
        None => "--overwrite",
        Some(_) => "--resume",
    });
    if let Moment::InWrite { after, byte } = moment {
        disk.preload(&mut command, "/checkpoints/", after, byte);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
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

/// The sizes of the checkpoints that were being written when the run was killed.
fn half_written(run: &Path) -> Vec<u64> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect()
}
