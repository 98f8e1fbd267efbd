//! The signals that ask a process to end, sent for real.

mod program;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use program::runs::{ENDLESS, checkpoints, run_with_checkpoints, signal, wait_for_checkpoint};
use program::{program, run, take_over, text};

#[test]
fn each_signal_that_asks_to_end_saves_and_ends_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    // The codes are 128 and the numbers in signal(7).
    for (name, code) in [
        ("INT", 130),
        ("TERM", 143),
        ("HUP", 129),
        ("USR1", 138),
        ("USR2", 140),
        ("XCPU", 152),
    ] {
        let run = folder.path().join(name);
        let said = folder.path().join("said");
        let mut child = program(&run_with_checkpoints(&run))
            .args(ENDLESS)
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        wait_for_checkpoint(&run, &mut child);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "SIG{name}");
        let step = saved_step(&fs::read_to_string(&said).unwrap(), name);
        goes_on_from(&run, step);
    }
}

/// The step in the message that a run leaves which the signal `name` ended.
fn saved_step(said: &str, name: &str) -> u64 {
    let message = format!("SIG{name} received: the state after step ");
    let rest = said.split_once(&message);
    let (_, rest) = rest.unwrap_or_else(|| panic!("no {message}in {said}"));
    let (step, rest) = rest.split_once(' ').unwrap();
    assert!(rest.starts_with("is saved, go on with --resume"), "{said}");
    step.parse().unwrap()
}

/// Resumes the run for one step more than `step`, its last.
fn goes_on_from(path: &Path, step: u64) {
    let newest = checkpoints(path).pop().unwrap();
    let name = format!("step-{step:08}.safetensors");
    assert_eq!(newest.file_name().unwrap().to_str(), Some(name.as_str()));
    let end = (step + 1).to_string();
    let output = run(&["--resume", "--out-dir", text(path), "--max-steps", &end]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let from = format!("going on from {}", newest.display());
    assert!(said.contains(&from), "no {from} in {said}");
}

#[test]
fn a_signal_that_was_inherited_as_ignored_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let said = folder.path().join("said");
    // As nohup does with SIGHUP, and a shell without job control with SIGINT of its background jobs.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT USR1; exec \"$0\" \"$@\""]);
    let endless = [&run_with_checkpoints(&run)[..], &ENDLESS].concat();
    take_over(&mut shell, &program(&endless));
    let mut child = shell
        .stdout(Stdio::null())
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    wait_for_checkpoint(&run, &mut child);
    for name in ["HUP", "INT", "USR1", "TERM"] {
        signal(&child, name);
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
    saved_step(&fs::read_to_string(&said).unwrap(), "TERM");
}

#[test]
fn a_run_whose_terminal_closes_saves_and_says_so_in_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut child = program(&run_with_checkpoints(&run))
        .args(ENDLESS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    hang_up(&mut child);
    wait_for_checkpoint(&run, &mut child);
    // The kernel and the shell send one each.
    signal(&child, "HUP");
    signal(&child, "HUP");
    assert_eq!(child.wait().unwrap().code(), Some(129));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    goes_on_from(&run, saved_step(&log, "HUP"));
}

/// From now on nothing that `child` prints arrives anywhere.
fn hang_up(child: &mut Child) {
    child.stdout = None;
    child.stderr = None;
}
