//! How a run of several processes ends before its time: by a signal, by the death of a process, by one that hangs, by an
//! error.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use resnet_xla::system::proc;

use crate::program::runs::{
    ENDLESS, assert_same_end, checkpoints, quick_run, run_with_checkpoints,
    wait_for_another_checkpoint, wait_for_checkpoint,
};
use crate::program::{program, take_over, text};
use crate::together::{
    errors, lets_all_end, mpirun_options, processes_of, side_by_side, spawn, succeed_together,
    together, together_with, wait,
};

fn send(signal: i32, process: u32) {
    // SAFETY: the signal goes to a process that this test started and has not waited for.
    let sent = unsafe { libc::kill(process as i32, signal) };
    assert_eq!(sent, 0);
}

/// The arguments of a run in `out_dir` that has not ended when it is interrupted, however late that is.
fn endless(out_dir: &Path) -> Vec<&str> {
    [&run_with_checkpoints(out_dir)[..], &ENDLESS].concat()
}

/// Starts a run of two processes in `out_dir`, with `options` of mpirun, and returns once it has a checkpoint.
fn start_two(out_dir: &Path, options: &[&str]) -> Option<Child> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let args = endless(out_dir);
    let mut command = together_with(options, &[(here, args.clone()), (here, args)])?;
    let mut mpirun = spawn(&mut command);
    wait_for_checkpoint(out_dir, &mut mpirun);
    Some(mpirun)
}

/// The step of the newest checkpoint.
fn saved_step(run: &Path) -> u64 {
    let newest = checkpoints(run).pop().unwrap();
    let name = newest.file_stem().unwrap().to_str().unwrap();
    name.trim_start_matches("step-").parse().unwrap()
}

/// Resumes the run with two processes; it must come to the same end as one that nothing stops.
fn goes_on_to_the_same_end(run: &Path) {
    // An epoch has 6 steps; at least a whole one is left.
    let epochs = (saved_step(run) / 6 + 2).to_string();
    let two = |out_dir: &Path, more: &[&str]| {
        let args = [
            &run_with_checkpoints(out_dir)[..],
            &["--epochs", &epochs],
            more,
        ]
        .concat();
        succeed_together(together(2, &args).unwrap());
    };
    two(run, &["--resume"]);
    let reference = run.with_extension("uninterrupted");
    two(&reference, &[]);
    assert_same_end(run, &reference);
}

#[test]
fn a_signal_to_any_process_ends_all_at_the_same_step_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = mpirun_options() else {
        return;
    };
    // The exit code goes into the file that is named first, too. mpirun ends the shell of a process when another has ended
    // with an error, and the trap gives it the moment that it needs.
    const NOTE: &str = "trap : TERM; \"$@\"; code=$?; echo $code >\"$0\"; exit $code";
    let run = folder.path().join("run");
    let codes = [0, 1].map(|process| folder.path().join(format!("code-{process}")));
    let noted = codes.iter().map(|file| {
        let mut shell = Command::new("sh");
        shell.args(["-c", NOTE, text(file)]);
        take_over(&mut shell, &program(&endless(&run)));
        shell
    });
    let mut mpirun = spawn(&mut side_by_side(&options, &[], noted));
    wait_for_checkpoint(&run, &mut mpirun);
    // Not the one that saves.
    send(libc::SIGTERM, processes_of(&mpirun)[1]);
    let output = wait(mpirun);
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(143), "{errors}");
    for code in codes {
        assert_eq!(fs::read_to_string(code).unwrap(), "143\n", "{errors}");
    }
    let said = errors.matches("SIGTERM received: the state after step");
    assert_eq!(said.count(), 1, "{errors}");
    goes_on_to_the_same_end(&run);
}

#[test]
fn a_killed_process_ends_all_and_the_resumed_run_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for process in [0, 1] {
        let run = folder.path().join(format!("run-{process}"));
        let Some(mpirun) = start_two(&run, &[]) else {
            return;
        };
        let killed = processes_of(&mpirun)[process];
        send(libc::SIGKILL, killed);
        let output = wait(mpirun);
        assert!(!output.status.success());
        // The other process names it, or mpirun, which may have been quicker: by its number or by its id.
        let errors = errors(&output);
        let names = [
            format!("process {process} of 2 has died"),
            format!("rank {process}"),
            format!("PID {killed}"),
        ];
        assert!(names.iter().any(|name| errors.contains(name)), "{errors}");
        goes_on_to_the_same_end(&run);
    }
}

#[test]
fn a_killed_process_ends_the_others_even_if_mpirun_does_not() {
    const GO_ON: &str = "--enable-recovery";
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = mpirun_options() else {
        return;
    };
    if options.is_empty() {
        eprintln!("skipped: only Open MPI's mpirun can be told to let the others go on");
        return;
    }
    for process in [0, 1] {
        let run = folder.path().join(format!("run-{process}"));
        let mpirun = start_two(&run, &[GO_ON]).unwrap();
        send(libc::SIGKILL, processes_of(&mpirun)[process]);
        let errors = errors(&wait(mpirun));
        let other = 1 - process;
        let expected = format!("process {process} of 2 has died, so process {other} ends too");
        assert!(errors.contains(&expected), "{errors}");
    }
}

/// Twenty times: until so many more steps were saved, and a moment more.
#[test]
fn killed_in_every_round_a_run_of_two_processes_ends_with_the_same_bits() {
    const ROUNDS: usize = 20;
    const STEPS: u64 = 20;
    let options = format!("--steps-per-epoch {STEPS} --eval-steps 1 --checkpoint-every 1 --keep 3");
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let mut random = |limit: u32| rng.next_u32() % limit;
    for round in 0..ROUNDS {
        let endless = format!("{options} {}", ENDLESS.join(" "));
        let options = match round {
            0 => endless,
            _ => format!("{endless} --resume"),
        };
        let Some(mut command) = together(2, &quick_run(&run, &options)) else {
            return;
        };
        let mut mpirun = spawn(&mut command);
        for _ in 0..=random(3) {
            wait_for_another_checkpoint(&run, &mut mpirun);
        }
        sleep(Duration::from_millis(random(30).into()));
        let saved = checkpoints(&run).pop();
        send(libc::SIGKILL, processes_of(&mpirun)[random(2) as usize]);
        assert!(!wait(mpirun).status.success());
        assert!(checkpoints(&run).pop() >= saved, "round {round}");
    }
    let options = format!("{options} --epochs {}", saved_step(&run) / STEPS + 2);
    let resumed = format!("{options} --resume");
    succeed_together(together(2, &quick_run(&run, &resumed)).unwrap());
    let reference = folder.path().join("reference");
    succeed_together(together(2, &quick_run(&reference, &options)).unwrap());
    assert_same_end(&run, &reference);
}

#[test]
fn a_process_that_hangs_is_named_by_the_others_which_end_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (processes, hanging) in [(2, 1), (4, 0)] {
        let run = folder.path().join(format!("run-{processes}"));
        let args = vec![(here, endless(&run)); processes];
        let Some(mut command) = together_with(&[], &args) else {
            return;
        };
        let mut mpirun = spawn(command.env("RESNET_XLA_HANG_SECONDS", "3"));
        wait_for_checkpoint(&run, &mut mpirun);
        send(libc::SIGSTOP, processes_of(&mpirun)[hanging]);
        let output = wait(mpirun);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let host = proc::hostname().unwrap();
        let expected = format!(
            "process {hanging} of {processes}, on {host}, has given no sign of life for 3 s"
        );
        assert!(errors.contains(&expected), "{errors}");
        if processes == 2 {
            goes_on_to_the_same_end(&run);
        }
    }
}

#[test]
fn a_limit_for_hanging_that_is_no_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = together(2, &quick_run(folder.path(), "")) else {
        return;
    };
    let output = command.env("RESNET_XLA_HANG_SECONDS", "long").output();
    let output = output.unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(
        errors.contains("RESNET_XLA_HANG_SECONDS is `long`"),
        "{errors}"
    );
}

/// What a process writes into it waits until something was read.
struct FullPipe {
    path: PathBuf,
    ends: File,
}

impl FullPipe {
    fn at(path: PathBuf) -> Self {
        let name = CString::new(text(&path)).unwrap();
        // SAFETY: the name ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let mut ends = options.custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        for filler in [&[b'.'; 4096][..], b"."] {
            while ends.write(filler).is_ok() {}
        }
        Self { path, ends }
    }

    /// Everything that is in it.
    fn read(&mut self) -> String {
        let mut content = Vec::new();
        // It ends with an error, as more may follow.
        assert!(self.ends.read_to_end(&mut content).is_err());
        String::from_utf8(content).unwrap()
    }
}

#[test]
fn what_all_processes_find_wrong_each_says_itself_however_late() {
    const ERROR: &str = "--replicas 3: 2 processes have 2 devices together";
    // Errors go into the file that is named first, and then the exit code.
    const SAY: &str = "\"$@\" 2>\"$0\"; echo \"ended with $?\" >\"$0\"";
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = mpirun_options() else {
        return;
    };
    let mut late = FullPipe::at(folder.path().join("late"));
    let run = folder.path().join("run");
    let alone = program(&quick_run(&run, "--replicas 3 --batch-size 9"));
    let said_into = ["/dev/stderr", text(&late.path)].map(|file| {
        let mut shell = Command::new("sh");
        shell.args(["-c", SAY, file]);
        take_over(&mut shell, &alone);
        shell
    });
    // Killed are those that are not that far, by Open MPI's mpirun, when a process ends with an error.
    let more = lets_all_end(&options);
    let mut mpirun = spawn(&mut side_by_side(&options, more, said_into));
    let mut errors = BufReader::new(mpirun.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("error: ") && errors.read_line(&mut said).unwrap() > 0 {}
    // Process 1 is about to write its error, and process 0 could be gone long since.
    sleep(Duration::from_millis(500));
    let mut of_late = late.read();
    errors.read_to_string(&mut said).unwrap();
    wait(mpirun);
    of_late += &late.read();
    for said in [&said, of_late.trim_start_matches('.')] {
        assert!(said.contains(ERROR), "{said}");
        assert!(said.contains("ended with 4\n"), "{said}");
    }
}

#[test]
fn an_error_of_one_process_ends_the_others_which_wait_for_it_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    // A run is there, for which only process 0 looks.
    fs::write(folder.path().join("config.toml"), "").unwrap();
    let Some(mut command) = together(2, &quick_run(folder.path(), "")) else {
        return;
    };
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(errors.matches("--overwrite").count(), 1, "{errors}");
}
