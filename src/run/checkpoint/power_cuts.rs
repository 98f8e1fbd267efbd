//! What the disk holds when it fails or loses power while a checkpoint is committed.

use std::collections::HashSet;
use std::path::Path;

use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet, TensorSpec};

use super::{CheckpointError, CheckpointInfo, Position, commit, file_name, newest_of};
use crate::model::state::HostState;
use crate::system::files::faulty::{Content, Fault, FaultyDisk, Lies};

const FOLDER: &str = "/run/checkpoints";
const KEEP: usize = 2;
/// The checkpoint that is being written when the fault comes. The one before it is safe.
const NEW: u64 = 3;

/// A checkpoint whose values tell its step.
fn state(specs: &[TensorSpec], step: u64) -> HostState {
    let values = |spec: &TensorSpec| {
        (0..spec.len())
            .map(|i| (step as usize + i) as f32)
            .collect()
    };
    HostState::new(specs.iter().map(values).collect())
}

fn info(step: u64) -> CheckpointInfo {
    CheckpointInfo {
        position: Position {
            step,
            step_in_epoch: step,
            ..Position::default()
        },
        ..CheckpointInfo::example(11)
    }
}

fn commit_step(disk: &FaultyDisk, specs: &[TensorSpec], step: u64) -> Result<(), CheckpointError> {
    let folder = Path::new(FOLDER);
    commit(disk, folder, KEEP, specs, &state(specs, step), &info(step)).map(drop)
}

/// A disk with two committed checkpoints, so that the third replaces one.
fn committed(specs: &[TensorSpec]) -> Content {
    let disk = FaultyDisk::default();
    for step in 1..NEW {
        commit_step(&disk, specs, step).unwrap();
    }
    disk.content()
}

/// Checks every value, and returns the step from which a run would resume on `content`.
fn resumed_step(content: &Content, specs: &[TensorSpec]) -> Result<u64, String> {
    let disk = FaultyDisk::with(content, Lies::default());
    let newest = newest_of(&disk, Path::new(FOLDER), specs);
    let (found, info) = newest.map_err(|error| error.to_string())?;
    let step = info.position.step;
    match found == state(specs, step) {
        true => Ok(step),
        false => Err(format!("the values of step {step} are not those saved")),
    }
}

/// Every way in which committing the third checkpoint can be cut short: before each operation, and
/// after each of the `prefixes` of a write.
fn faults(
    before: &Content,
    specs: &[TensorSpec],
    prefixes: fn(usize) -> Vec<usize>,
    fatal: bool,
) -> Vec<Fault> {
    let disk = FaultyDisk::with(before, Lies::default());
    commit_step(&disk, specs, NEW).unwrap();
    let operations = disk.operations();
    let names: Vec<_> = operations.iter().map(|operation| operation.name).collect();
    let expected = [
        "create",
        "write",
        "sync",
        "rename",
        "sync folder",
        "list",
        "remove",
    ];
    assert_eq!(names, expected);
    let mut faults = Vec::new();
    for (after, operation) in operations.iter().enumerate() {
        for written in prefixes(operation.bytes) {
            faults.push(Fault {
                after,
                written,
                fatal,
            });
        }
    }
    // The last fault comes when everything is done.
    faults.push(Fault {
        after: operations.len(),
        written: 0,
        fatal,
    });
    faults
}

/// What the power cuts left: how many different disks, and those that broke the promise.
#[derive(Debug)]
struct Report {
    cuts: usize,
    disks: usize,
    broken: Vec<String>,
}

/// Cuts the power at each of `faults` and looks at every disk that may be left. Each must hold the
/// checkpoint before, whole, or the new one; and the new one once it was said to be safe.
fn cut_power(before: &Content, specs: &[TensorSpec], faults: &[Fault], lies: Lies) -> Report {
    let mut seen = HashSet::new();
    let mut broken = Vec::new();
    for fault in faults {
        let disk = FaultyDisk::with(before, lies);
        disk.arm(*fault);
        let result = commit_step(&disk, specs, NEW);
        // The new one is safe once its folder is synced; what fails later is only the pruning.
        let safe = matches!(result, Ok(()) | Err(CheckpointError::Prune { .. }));
        for content in disk.after_power_cut() {
            if !seen.insert((content.clone(), safe)) {
                continue;
            }
            match resumed_step(&content, specs) {
                Ok(NEW) => {}
                Ok(step) if step == NEW - 1 && !safe => {}
                other => broken.push(format!("{fault:?}: safe: {safe}, found {other:?}")),
            }
        }
    }
    Report {
        cuts: faults.len(),
        disks: seen.len(),
        broken,
    }
}

/// Two tensors of a few values: a file small enough to be cut at each of its bytes.
fn small() -> Vec<TensorSpec> {
    let mut specs = quick().state()[..2].to_vec();
    specs[0].dims = vec![2, 3];
    specs[1].dims = vec![5];
    specs
}

/// The state of the quick preset's network.
fn quick() -> Layout {
    let architecture = Architecture::resnet_v2(11).unwrap();
    let network = ResNet::new(&architecture, 10, Lowering::Dots).unwrap();
    Layout::new(network.tensors(), &["momentum"])
}

fn every(bytes: usize) -> Vec<usize> {
    (0..=bytes).collect()
}

/// The first and last few, and a hundred in between.
fn some(bytes: usize) -> Vec<usize> {
    let keep = |n: &usize| *n < 16 || *n + 16 > bytes || n.is_multiple_of(bytes / 100 + 1);
    (0..=bytes).filter(keep).collect()
}

#[test]
fn power_cut_at_any_operation_and_byte_leaves_the_checkpoint_before_or_the_new_one() {
    let specs = small();
    let before = committed(&specs);
    let faults = faults(&before, &specs, every, true);
    let report = cut_power(&before, &specs, &faults, Lies::default());
    println!(
        "{} power cuts, {} different disks",
        report.cuts, report.disks
    );
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    assert!(report.cuts > 600 && report.disks > 1000, "{report:?}");
}

#[test]
fn power_cut_in_a_checkpoint_of_the_quick_preset_loses_no_committed_step() {
    let layout = quick();
    let specs = layout.state();
    let before = committed(specs);
    let faults = faults(&before, specs, some, true);
    let report = cut_power(&before, specs, &faults, Lies::default());
    println!(
        "{} power cuts, {} different disks",
        report.cuts, report.disks
    );
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
}

#[test]
fn a_disk_that_only_pretends_to_sync_is_caught() {
    let specs = small();
    let before = committed(&specs);
    let faults = faults(&before, &specs, every, true);
    for lies in [
        Lies {
            about_files: true,
            about_folders: false,
        },
        Lies {
            about_files: false,
            about_folders: true,
        },
    ] {
        let report = cut_power(&before, &specs, &faults, lies);
        assert!(!report.broken.is_empty(), "{lies:?} went unnoticed");
    }
}

#[test]
fn an_operation_that_fails_is_an_error_that_names_the_file_and_loses_nothing() {
    let specs = small();
    let before = committed(&specs);
    let mut faults = faults(&before, &specs, every, false);
    faults.pop();
    for fault in faults {
        let disk = FaultyDisk::with(&before, Lies::default());
        disk.arm(fault);
        let error = commit_step(&disk, &specs, NEW).unwrap_err().to_string();
        assert!(error.contains(FOLDER), "{error}");
        let found = resumed_step(&disk.content(), &specs).unwrap();
        assert!(found == NEW || found == NEW - 1, "{fault:?}: step {found}");
        // Once the disk works again, so does the next checkpoint.
        commit_step(&disk, &specs, NEW + 1).unwrap();
        assert_eq!(resumed_step(&disk.content(), &specs).unwrap(), NEW + 1);
    }
}

#[test]
fn a_run_goes_on_after_every_power_cut_and_its_next_checkpoint_is_the_newest() {
    let specs = small();
    let before = committed(&specs);
    let mut seen = HashSet::new();
    for fault in faults(&before, &specs, every, true) {
        let disk = FaultyDisk::with(&before, Lies::default());
        disk.arm(fault);
        // The other tests check whether it fails.
        let _ = commit_step(&disk, &specs, NEW);
        for content in disk.after_power_cut() {
            if !seen.insert(content.clone()) {
                continue;
            }
            let disk = FaultyDisk::with(&content, Lies::default());
            commit_step(&disk, &specs, NEW + 1).unwrap();
            let after = disk.content();
            assert_eq!(resumed_step(&after, &specs).unwrap(), NEW + 1);
            let named = |step| after.contains_key(&Path::new(FOLDER).join(file_name(step)));
            let checkpoints = (1..=NEW + 1).filter(|step| named(*step)).count();
            assert_eq!(checkpoints, KEEP, "{fault:?}");
        }
    }
}
