//! A long run takes no more memory, files or threads than a short one.
//!
//! `RESNET_XLA_SOAK_STEPS=2000 cargo test --release --test soak -- --nocapture` is the long form.
//! `RESNET_XLA_SOAK_ARGS="--depth 164 --batch-size 128"` with it has it train another network.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use program::{program, program_as_shipped, text};

const STEPS: &str = "RESNET_XLA_SOAK_STEPS";
const STEPS_IN_CI: u64 = 80;
const MORE_ARGS: &str = "RESNET_XLA_SOAK_ARGS";
/// Looks at the process, spread evenly over its steps.
const LOOKS: u64 = 20;
/// What memory may grow by from the second quarter of the run to its last, in kB: caches of the
/// allocator, histories. A leak of one batch a step would be 100 MB in 500 steps.
const GROWTH_KB: u64 = 32 << 10;

/// Files and threads that are there only while a checkpoint or a report is written. A leak of one an epoch
/// would be ten.
const WRITERS: u64 = 3;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Of the run, or a little later.
    step: u64,
    rss_kb: u64,
    files: usize,
    threads: u64,
}

#[test]
fn memory_files_and_threads_stay_as_they_are_however_long_a_run_is() {
    let asked = std::env::var(STEPS).ok();
    let steps = asked
        .as_ref()
        .map_or(STEPS_IN_CI, |steps| steps.parse().unwrap());
    let more_args = std::env::var(MORE_ARGS).unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Many epochs, so that evaluations, reports and checkpoints are part of it.
    let per_epoch = (steps / LOOKS).max(1);
    let (epochs, steps_per_epoch) = (LOOKS.to_string(), per_epoch.to_string());
    let args = [
        "--preset",
        "quick",
        "--device",
        "cpu",
        "--epochs",
        &epochs,
        "--steps-per-epoch",
        &steps_per_epoch,
        "--eval-steps",
        "4",
        "--out-dir",
        text(&run),
    ];
    let mut command = match asked {
        Some(_) => program_as_shipped(&args),
        None => program(&args),
    };
    let mut child = command
        .args(more_args.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = watch(&mut child, &run, per_epoch);
    assert!(child.wait().unwrap().success());
    for Held {
        step,
        rss_kb,
        files,
        threads,
    } in &held
    {
        println!(
            "step {step}: {} MiB, {files} files, {threads} threads",
            rss_kb >> 10
        );
    }
    let (early, late) = (
        &held[held.len() / 4..held.len() / 2],
        &held[3 * held.len() / 4..],
    );
    assert!(early.len() > 2 && late.len() > 2, "{held:?}");
    let most = |held: &[Held], what: fn(&Held) -> u64| held.iter().map(what).max().unwrap();
    let rss = |held: &Held| held.rss_kb;
    assert!(most(late, rss) <= most(early, rss) + GROWTH_KB);
    for what in [|held: &Held| held.files as u64, |held: &Held| held.threads] {
        assert!(most(late, what) <= most(early, what) + WRITERS);
    }
}

/// Looks at `child` after each of its epochs, of `per_epoch` steps, but the last.
fn watch(child: &mut Child, run: &Path, per_epoch: u64) -> Vec<Held> {
    let start = Instant::now();
    let mut all = Vec::new();
    let mut epochs = 0;
    while child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(4 * 3600),
            "four hours have passed"
        );
        let rows = fs::read_to_string(run.join("history.csv")).unwrap_or_default();
        let done = rows.lines().count().saturating_sub(1);
        if done > epochs {
            epochs = done;
            all.extend(look(child.id(), done as u64 * per_epoch));
        }
        sleep(Duration::from_millis(20));
    }
    all
}

/// `None` when the process has just ended.
fn look(pid: u32, step: u64) -> Option<Held> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |key: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Held {
        step,
        rss_kb: number("VmRSS:")?,
        threads: number("Threads:")?,
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
    })
}
