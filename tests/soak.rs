//! A long run takes no more memory, files or threads than a short one.
//!
//! `RESNET_XLA_SOAK_STEPS=2000 cargo test --release --test soak -- --nocapture` is the long form.
//! `RESNET_XLA_SOAK_ARGS="--depth 164 --batch-size 128"` with it has it train another network.

mod program;

use std::fs;
use std::process::Stdio;

use program::plugins::cpu_plugin;
use program::shims::HeldWrite;
use program::{program, program_as_shipped, text};

const STEPS: &str = "RESNET_XLA_SOAK_STEPS";
const STEPS_IN_CI: u64 = 160;
const MORE_ARGS: &str = "RESNET_XLA_SOAK_ARGS";
/// Epochs of the run: the process is looked at at the end of each.
const EPOCHS: u64 = 20;
/// What memory may grow by from the second quarter of the run to its last, in kB: caches of the
/// allocator, histories. A leak of one batch a step would be 15 MiB in CI: 80 steps of 192 KiB.
const GROWTH_KB: u64 = 8 << 10;

/// Files and threads that are there only while a checkpoint or a report is written. A leak of one an epoch
/// would be ten.
const WRITERS: u64 = 3;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    rss_kb: u64,
    files: usize,
    threads: u64,
}

#[test]
fn memory_files_and_threads_stay_as_they_are_however_long_a_run_is() {
    soak(&["--device", "cpu"], 0);
}

#[test]
fn so_they_do_on_a_plugin() {
    if let Some(plugin) = cpu_plugin() {
        // It runs a step while the next one is prepared, so that now and then one more of them is there.
        soak(&["--plugin", text(&plugin)], 1);
    }
}

/// Looks at a long run on the device that the arguments `on` name, where as many steps as `ahead` may be there beside the
/// one that runs.
fn soak(on: &[&str], ahead: u64) {
    let asked = std::env::var(STEPS).ok();
    let steps = asked
        .as_ref()
        .map_or(STEPS_IN_CI, |steps| steps.parse().unwrap());
    let more_args = std::env::var(MORE_ARGS).unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Many epochs, so that evaluations, reports and checkpoints are part of it.
    let per_epoch = (steps / EPOCHS).max(1);
    let (epochs, steps_per_epoch) = (EPOCHS.to_string(), per_epoch.to_string());
    let args = [
        "--preset",
        "quick",
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
    // With an arena for each thread that allocates, memory would depend on which threads a machine's cores run.
    command.env("MALLOC_ARENA_MAX", "1");
    // The program waits where it writes an epoch's row, until it has been looked at.
    let disk = HeldWrite::new();
    disk.preload(&mut command, "history.csv", 0, 0);
    let mut child = command
        .args(on)
        .args(more_args.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut held = Vec::new();
    while disk.wait(&mut child) {
        held.push(look(child.id()));
        disk.release();
    }
    assert!(child.wait().unwrap().success());
    for (row, held) in held.iter().enumerate() {
        let (mib, files, threads) = (held.rss_kb >> 10, held.files, held.threads);
        println!("row {row} of {per_epoch} steps: {mib} MiB, {files} files, {threads} threads");
    }
    let (early, late) = (
        &held[held.len() / 4..held.len() / 2],
        &held[3 * held.len() / 4..],
    );
    // The header is written too.
    assert!(held.len() as u64 > EPOCHS, "{held:?}");
    let most = |held: &[Held], what: fn(&Held) -> u64| held.iter().map(what).max().unwrap();
    let rss = |held: &Held| held.rss_kb;
    // One step takes no more than all that came after the first row, which is written before any step.
    let step = most(early, rss) - held[0].rss_kb;
    assert!(most(late, rss) <= most(early, rss) + GROWTH_KB + ahead * step);
    for what in [|held: &Held| held.files as u64, |held: &Held| held.threads] {
        assert!(most(late, what) <= most(early, what) + WRITERS);
    }
}

/// What the process `pid`, which stands still, holds.
fn look(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    Held {
        rss_kb: number("VmRSS:"),
        threads: number("Threads:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
    }
}
