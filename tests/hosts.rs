//! Several processes that share a run, under a real `mpirun` on this machine.
//!
//! The tests skip, and say why, where there is no `mpirun` or where `./setup mpi` has not run.

mod program;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cpu_kernels::isa::{self, Isa};
use image::{Rgb, RgbImage};
use program::runs::{
    PATIENCE, assert_same_end, checkpoints, quick_run, run_with_checkpoints,
    wait_for_another_checkpoint, wait_for_checkpoint,
};
use program::{fail, program, succeed, text};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use resnet_xla::device::mpi;
use resnet_xla::system::proc;

/// The options of this machine's `mpirun` to start more processes than there are cores; none where the tests must skip.
fn mpirun_options() -> Option<Vec<&'static str>> {
    let Ok(version) = Command::new("mpirun").arg("--version").output() else {
        eprintln!("skipped: there is no mpirun");
        return None;
    };
    if !mpi::library_path().is_some_and(|path| path.is_file()) {
        eprintln!("skipped: the library for MPI is not there; ./setup mpi makes it");
        return None;
    }
    let is_open_mpi = String::from_utf8_lossy(&version.stdout).contains("Open MPI");
    Some(match is_open_mpi {
        true => vec![
            "--oversubscribe",
            "--allow-run-as-root",
            "--bind-to",
            "none",
        ],
        false => Vec::new(),
    })
}

/// `mpirun` with `options`, and with the program as one process for each of `args`, in the folder and with the arguments
/// that these name.
fn together_with(options: &[&str], args: &[(&Path, Vec<&str>)]) -> Option<Command> {
    let alone = |(folder, args): &(&Path, Vec<&str>)| {
        let mut alone = program(args);
        alone.current_dir(folder);
        alone
    };
    Some(side_by_side(
        &mpirun_options()?,
        options,
        args.iter().map(alone),
    ))
}

/// `mpirun` with its options for this machine and `more`, and with each of `commands` as a process, in the folder that it
/// names. What they change of the environment is changed for all.
fn side_by_side(
    options: &[&str],
    more: &[&str],
    commands: impl IntoIterator<Item = Command>,
) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(options).args(more);
    for (index, command) in commands.into_iter().enumerate() {
        mpirun.args((index > 0).then_some(":")).args(["-n", "1"]);
        if let Some(folder) = command.get_current_dir() {
            mpirun.args(["-wdir", text(folder)]);
        }
        take_over(&mut mpirun, &command);
    }
    mpirun
}

/// Options of a launcher that takes [`mpirun_options`], with which it lets the others go on when one has ended with an error.
fn lets_all_end(options: &[&str]) -> &'static [&'static str] {
    // MPICH's does so by itself.
    match options.is_empty() {
        true => &[],
        false => &["--mca", "orte_abort_on_non_zero_status", "0"],
    }
}

/// Adds `alone` to the arguments of `launcher`, and its changes of the environment to the launcher's.
fn take_over(launcher: &mut Command, alone: &Command) {
    launcher.arg(alone.get_program()).args(alone.get_args());
    for (name, value) in alone.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
}

/// `mpirun` with the program with `args` in `processes` processes.
fn together(processes: usize, args: &[&str]) -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    together_with(&[], &vec![(here, args.to_vec()); processes])
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `command`, which must succeed, and returns what it wrote to standard error.
fn succeed_together(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert!(output.status.success(), "{errors}");
    errors
}

/// The processes of the program that `mpirun` started, in the order of their ids, which is that of their numbers.
fn processes_of(mpirun: &Child) -> Vec<u32> {
    let all: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| parent_and_name(&entry.path()))
        .collect();
    let parent = |id: u32| {
        all.iter()
            .find(|(own, ..)| *own == id)
            .map(|(_, of, _)| *of)
    };
    // Launchers and tests may have processes of their own in between.
    let is_below = |id: u32| {
        let mut above = std::iter::successors(Some(id), |id| parent(*id));
        above.any(|id| id == mpirun.id())
    };
    let mut found: Vec<u32> = all
        .iter()
        .filter(|(id, _, name)| name.starts_with("resnet-xla") && is_below(*id))
        .map(|(id, ..)| *id)
        .collect();
    found.sort_unstable();
    found
}

/// The id of the process with this folder in `/proc`, its parent's, and its name; none if it has ended.
fn parent_and_name(folder: &Path) -> Option<(u32, u32, String)> {
    // "17 (resnet-xla) S 12 …"
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (id, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?;
    Some((id.parse().ok()?, parent.parse().ok()?, name.to_owned()))
}

fn send(signal: i32, process: u32) {
    // SAFETY: the signal goes to a process that this test started and has not waited for.
    let sent = unsafe { libc::kill(process as i32, signal) };
    assert_eq!(sent, 0);
}

fn wait(mut mpirun: Child) -> Output {
    let start = Instant::now();
    while mpirun.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "mpirun does not end");
        sleep(Duration::from_millis(20));
    }
    mpirun.wait_with_output().unwrap()
}

/// Starts a run of two processes in `out_dir`, with `options` of mpirun, and returns once it has a checkpoint.
fn start_two(out_dir: &Path, options: &[&str]) -> Option<Child> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let args = run_with_checkpoints(out_dir);
    let mut command = together_with(options, &[(here, args.clone()), (here, args)])?;
    let mut mpirun = spawn(&mut command);
    wait_for_checkpoint(out_dir, &mut mpirun);
    Some(mpirun)
}

fn spawn(mpirun: &mut Command) -> Child {
    let piped = mpirun.stderr(Stdio::piped()).stdout(Stdio::null());
    piped.spawn().unwrap()
}

/// The losses of each epoch, in training and in validation.
fn losses(run: &Path) -> Vec<f64> {
    let content = fs::read_to_string(run.join("history.csv")).unwrap();
    let rows = content.lines().skip(1).flat_map(|row| {
        let columns: Vec<&str> = row.split(',').collect();
        [columns[1], columns[3]].map(|loss| loss.parse().unwrap())
    });
    rows.collect()
}

/// A run of two processes in `folder` that nothing stops.
fn uninterrupted(folder: &Path) -> Option<PathBuf> {
    let run = folder.join("uninterrupted");
    succeed_together(together(2, &run_with_checkpoints(&run))?);
    Some(run)
}

/// Resumes the run with two processes; it must come to the end of `reference`.
fn goes_on_to_the_same_end(run: &Path, reference: &Path) {
    let resumed = [&run_with_checkpoints(run)[..], &["--resume"]].concat();
    succeed_together(together(2, &resumed).unwrap());
    assert_same_end(run, reference);
}

/// Epochs of five steps, and all test images after each. The learning rate is low because the network is chaotic at its
/// usual one: there, one process with two replicas and with four differ by 1 % after eight steps.
const CALM: &str = "--steps-per-epoch 5 --batch-size 32 --lr 0.001 --epochs";

/// Checks that two runs of so many epochs differ by nothing but rounding, as one process splits each replica's sums among
/// other threads. After 20 steps the losses of all differ by 5e-6 at most, and those with `--bn local` from those with
/// `sync`, as a process that kept something to itself would have them, by 5e-4 and more.
fn assert_same_losses(run: &Path, other: &Path, epochs: usize) {
    const TOLERANCE: f64 = 5e-5;
    let (run, other) = (losses(run), losses(other));
    assert_eq!((run.len(), other.len()), (2 * epochs, 2 * epochs));
    for (loss, other) in run.iter().zip(&other) {
        let difference = (loss - other).abs() / other;
        assert!(difference < TOLERANCE, "{loss} and {other}");
    }
}

#[test]
fn two_and_four_processes_learn_what_one_with_as_many_replicas_does() {
    let folder = tempfile::tempdir().unwrap();
    for (processes, bn) in [(2, "sync"), (4, "sync"), (2, "local")] {
        let options = format!("{CALM} 4 --bn {bn}");
        let shared = folder.path().join(format!("shared-{processes}-{bn}"));
        let Some(command) = together(processes, &quick_run(&shared, &options)) else {
            return;
        };
        succeed_together(command);
        let alone = folder.path().join(format!("alone-{processes}-{bn}"));
        let options = format!("{options} --replicas {processes}");
        succeed(&quick_run(&alone, &options));
        assert_same_losses(&shared, &alone, 4);
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (begin, end) = (format!("{CALM} 1"), format!("{CALM} 2"));
    let reference = folder.path().join("reference");
    let Some(command) = together(2, &quick_run(&reference, &end)) else {
        return;
    };
    succeed_together(command);
    let resumed = format!("{end} --resume");
    for processes in [4, 1] {
        let run = folder.path().join(format!("run-{processes}"));
        succeed_together(together(2, &quick_run(&run, &begin)).unwrap());
        let said = match processes {
            1 => errors(&program(&quick_run(&run, &resumed)).output().unwrap()),
            _ => succeed_together(together(processes, &quick_run(&run, &resumed)).unwrap()),
        };
        let replicas = match processes {
            1 => "resuming with 1 replica; it was 2",
            _ => "resuming with 4 replicas; it was 2",
        };
        assert!(said.contains(replicas), "{said}");
        assert_same_losses(&run, &reference, 2);
    }
}

#[test]
fn a_signal_to_any_process_ends_all_at_the_same_step_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(reference) = uninterrupted(folder.path()) else {
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
        take_over(&mut shell, &program(&run_with_checkpoints(&run)));
        shell
    });
    let options = mpirun_options().unwrap();
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
    goes_on_to_the_same_end(&run, &reference);
}

#[test]
fn a_killed_process_ends_all_and_the_resumed_run_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let Some(reference) = uninterrupted(folder.path()) else {
        return;
    };
    for process in [0, 1] {
        let run = folder.path().join(format!("run-{process}"));
        let mpirun = start_two(&run, &[]).unwrap();
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
        goes_on_to_the_same_end(&run, &reference);
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
    let options = "--epochs 10 --steps-per-epoch 20 --eval-steps 1 --checkpoint-every 1 --keep 3";
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    let Some(command) = together(2, &quick_run(&reference, options)) else {
        return;
    };
    succeed_together(command);
    let run = folder.path().join("run");
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let mut random = |limit: u32| rng.next_u32() % limit;
    for round in 0..ROUNDS {
        let options = match round {
            0 => options.to_owned(),
            _ => format!("{options} --resume"),
        };
        let mut mpirun = spawn(&mut together(2, &quick_run(&run, &options)).unwrap());
        for _ in 0..=random(3) {
            wait_for_another_checkpoint(&run, &mut mpirun);
        }
        sleep(Duration::from_millis(random(30).into()));
        let saved = checkpoints(&run).pop();
        send(libc::SIGKILL, processes_of(&mpirun)[random(2) as usize]);
        assert!(!wait(mpirun).status.success());
        assert!(checkpoints(&run).pop() >= saved, "round {round}");
    }
    let options = format!("{options} --resume");
    succeed_together(together(2, &quick_run(&run, &options)).unwrap());
    assert_same_end(&run, &reference);
}

#[test]
fn a_process_that_hangs_is_named_by_the_others_which_end_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(reference) = uninterrupted(folder.path()) else {
        return;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (processes, hanging) in [(2, 1), (4, 0)] {
        let run = folder.path().join(format!("run-{processes}"));
        let args = vec![(here, run_with_checkpoints(&run)); processes];
        let mut command = together_with(&[], &args).unwrap();
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
            goes_on_to_the_same_end(&run, &reference);
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

/// Two hosts that this machine plays, over a line that takes a tenth of a millisecond, each with a disk of its own.
#[test]
fn two_hosts_that_share_no_disk_give_the_bits_of_two_processes_on_one() {
    const SKIPPED: i32 = 77;
    let Some(options) = mpirun_options() else {
        return;
    };
    if options.is_empty() {
        eprintln!("skipped: scripts/two_hosts.py is for Open MPI");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let disks = ["disk", "disk-1", "disk-2"].map(|name| folder.path().join(name));
    for disk in &disks {
        fs::create_dir(disk).unwrap();
    }
    let run = disk.join("run");
    let options = "--steps-per-epoch 4 --eval-steps 1 --epochs";
    let train = |more: &str| {
        let options = format!("{options} {more}");
        let alone = program(&quick_run(&run, &options));
        let mut hosts = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/two_hosts.py"));
        hosts.args(["--delay", "0.1", "--disk", text(&disk)]);
        hosts.args([
            "mpirun",
            "--bind-to",
            "none",
            "--host",
            "10.77.0.1,10.77.0.2",
        ]);
        take_over(&mut hosts, &alone);
        hosts.output()
    };
    let output = match train("1") {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: scripts/two_hosts.py cannot be run: {error}");
            return;
        }
    };
    if output.status.code() == Some(SKIPPED) {
        eprintln!("{}", errors(&output).trim());
        return;
    }
    assert!(output.status.success(), "{}", errors(&output));
    let output = train("2 --resume").unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(fs::read_dir(&disks[2]).unwrap().count(), 0);

    let here = folder.path().join("here");
    let options = format!("{options} 2");
    succeed_together(together(2, &quick_run(&here, &options)).unwrap());
    assert_same_end(&disks[1].join("run"), &here);
}

#[test]
fn the_first_process_alone_writes_and_the_others_need_not_see_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = ["one", "two"].map(|name| folder.path().join(name));
    for host in &hosts {
        fs::create_dir(host).unwrap();
    }
    // The same relative folder, on hosts that share no disk.
    let run = Path::new("run");
    let options = "--steps-per-epoch 4 --eval-steps 1 --epochs";
    let train = |more: &str| {
        let options = format!("{options} {more}");
        let args = quick_run(run, &options);
        let args = [(hosts[0].as_path(), args.clone()), (&hosts[1], args)];
        together_with(&[], &args).map(succeed_together)
    };
    let Some(first) = train("1") else { return };
    assert_eq!(first.matches("the run is in").count(), 1, "{first}");
    train("2 --resume");
    assert_eq!(checkpoints(&hosts[0].join(run)).len(), 2);
    let written = fs::read_dir(&hosts[1]).unwrap().count();
    assert_eq!(written, 0);

    // Not interrupted, it would have come to the same.
    let through = folder.path().join("through");
    let options = format!("{options} 2");
    succeed_together(together(2, &quick_run(&through, &options)).unwrap());
    assert_same_end(&hosts[0].join(run), &through);
}

#[test]
fn decoded_pictures_of_a_process_that_does_not_see_the_runs_are_in_its_users_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pictures = path("pictures");
    for (class, shade) in [("dark", 40), ("light", 220)] {
        fs::create_dir_all(pictures.join(class)).unwrap();
        for number in 0..8 {
            let picture = RgbImage::from_pixel(8, 8, Rgb([shade + number, shade, shade]));
            let name = format!("{number}.png");
            picture.save(pictures.join(class).join(name)).unwrap();
        }
    }
    // The same relative folder, on hosts that share no disk but that of the pictures.
    let hosts = ["one", "two"].map(path);
    for host in &hosts {
        fs::create_dir(host).unwrap();
    }
    let options = "--epochs 1 --image-size 8 --validation-split 8 --cache-memory 0";
    let data = ["--dataset", "folder", "--data-dir", text(&pictures)];
    let args = [&quick_run(Path::new("runs/shades"), options)[..], &data].concat();
    let args = hosts.each_ref().map(|host| (host.as_path(), args.clone()));
    let Some(mut both) = together_with(&[], &args) else {
        return;
    };
    both.env("XDG_CACHE_HOME", path("cache"));
    succeed_together(both);
    let kept = |folder: &Path| fs::read_dir(folder.join("decoded-images")).unwrap().count();
    assert_eq!(kept(&hosts[0].join("runs")), 1);
    assert_eq!(kept(&path("cache/resnet-xla")), 1);
    assert_eq!(fs::read_dir(&hosts[1]).unwrap().count(), 0);
}

#[test]
fn processes_with_different_settings_all_end_with_the_name_of_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let here = folder.path();
    let args = ["--lr 0.05", "--lr 0.06"].map(|options| (here, quick_run(&run, options)));
    let Some(mut command) = together_with(&[], &args) else {
        return;
    };
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let named = errors
        .matches("the processes do not agree on `lr`: process 1")
        .count();
    assert_eq!(named, 2, "{errors}");
    for value in ["it is 0.05", "it is 0.06"] {
        assert!(errors.contains(value), "{errors}");
    }
    // Nothing was begun.
    assert!(!run.exists());

    // A resumed run has its settings from its folder, and what the processes say against these must be the same too.
    let options = "--eval-steps 1 --max-steps";
    succeed(&quick_run(&run, &format!("{options} 1")));
    let resumed = [2, 3].map(|steps| format!("{options} {steps} --resume"));
    let args = resumed
        .each_ref()
        .map(|options| (here, quick_run(&run, options)));
    let output = together_with(&[], &args).unwrap().output().unwrap();
    let errors = self::errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let named = "the processes do not agree on `max-steps`: process 1";
    assert_eq!(errors.matches(named).count(), 2, "{errors}");
}

/// Checks that processes 0 and 1 of `mpirun` end before the first step, because they have another `field`.
fn do_not_agree_on(field: &str, mut mpirun: Command) {
    let output = mpirun.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let named = format!("the processes do not agree on `{field}`: process 1");
    assert_eq!(errors.matches(&named).count(), 2, "{errors}");
}

#[test]
fn processes_with_different_images_all_end() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = ["one", "two"].map(|name| folder.path().join(name));
    for (host, last) in hosts.iter().zip([200, 201]) {
        for (class, colour) in [("dark", 20), ("light", last)] {
            let pictures = host.join("pictures/train").join(class);
            fs::create_dir_all(&pictures).unwrap();
            for number in 0..8 {
                let picture = RgbImage::from_pixel(16, 16, Rgb([colour, 0, number]));
                picture
                    .save(pictures.join(format!("{number}.png")))
                    .unwrap();
            }
        }
    }
    let options = "--dataset folder --data-dir pictures --image-size 16 --validation-split 0.25";
    let args = quick_run(Path::new("run"), options);
    let args = hosts.each_ref().map(|host| (host.as_path(), args.clone()));
    if let Some(command) = together_with(&[], &args) {
        do_not_agree_on("images", command);
    }
}

#[test]
fn processes_with_different_instruction_sets_all_end() {
    let Some(options) = mpirun_options() else {
        return;
    };
    if Isa::of_processor() == Isa::Generic {
        eprintln!(
            "skipped: this processor has one instruction set of those that the program knows"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let with = |isa: Isa| {
        let mut command = Command::new("env");
        command.arg(format!("{}={isa}", isa::VARIABLE));
        take_over(&mut command, &program(&quick_run(&run, "")));
        command
    };
    let command = side_by_side(&options, &[], [Isa::Avx2, Isa::Generic].map(with));
    do_not_agree_on("instruction set", command);
}

#[test]
fn a_command_that_shares_no_work_is_refused_in_several_processes() {
    let Some(mut command) = together(2, &["eval", "--checkpoint", "none"]) else {
        return;
    };
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let expected = "error: `eval` runs in one process, and here 2 do the same";
    assert!(errors.contains(expected), "{errors}");
}

#[test]
fn the_doctor_says_who_each_process_is_and_where_the_library_for_mpi_is() {
    let Some(mut command) = together(2, &["doctor", "--device", "cpu"]) else {
        return;
    };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", errors(&output));
    for process in 0..2 {
        let own = format!("processes   process {process} of 2, by ");
        assert_eq!(said.matches(&own).count(), 1, "{said}");
    }
    let library = format!("  MPI       {}: found", text(&mpi::library_path().unwrap()));
    assert_eq!(said.matches(&library).count(), 2, "{said}");
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

#[test]
fn several_processes_that_no_mpi_joined_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let message = fail(&quick_run(&run, "--processes 2 --process 0"), 4);
    let expected = match mpi::library_path().is_some_and(|path| path.is_file()) {
        true => "but by MPI it is process 0 of 1",
        false => "./setup mpi",
    };
    assert!(message.contains(expected), "{message}");
    let message = fail(&quick_run(&run, "--processes 2"), 2);
    assert!(message.contains("--process is missing"), "{message}");
    assert!(!run.exists());
}

#[test]
fn without_the_library_for_mpi_several_processes_are_refused_and_told_how_to_make_it() {
    // Puts an empty folder over the one that is named first.
    const HIDE: &str = "mount -t tmpfs none \"$0\" && exec \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let alone = program(&quick_run(&run, "--processes 2 --process 0"));
    let library = mpi::library_path().filter(|path| path.is_file());
    let Some(library) = library else {
        // The test above has seen it.
        return;
    };
    let hidden = |alone: &Command| {
        let mut command = Command::new("unshare");
        let folder = text(library.parent().unwrap());
        command.args(["--mount", "sh", "-c", HIDE, folder]);
        take_over(&mut command, alone);
        command.output()
    };
    if !hidden(&Command::new("true")).is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: only root may hide the library for MPI");
        return;
    }
    let output = hidden(&alone).unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    let expected = "there are 2 processes (--processes, --process), and the library that joins CPUs of several processes \
                    is not there. Run `./setup mpi`";
    assert!(errors.contains(expected), "{errors}");
}
