//! Starts several processes under `mpirun`, and looks after them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use resnet_xla::device::mpi;

use crate::program::runs::PATIENCE;
use crate::program::{program, take_over, text};

/// The options of this machine's `mpirun` to start more processes than there are cores; none where the tests must skip.
pub fn mpirun_options() -> Option<Vec<&'static str>> {
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
pub fn together_with(options: &[&str], args: &[(&Path, Vec<&str>)]) -> Option<Command> {
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
pub fn side_by_side(
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
pub fn lets_all_end(options: &[&str]) -> &'static [&'static str] {
    // MPICH's does so by itself.
    match options.is_empty() {
        true => &[],
        false => &["--mca", "orte_abort_on_non_zero_status", "0"],
    }
}

/// `mpirun` with the program with `args` in `processes` processes.
pub fn together(processes: usize, args: &[&str]) -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    together_with(&[], &vec![(here, args.to_vec()); processes])
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `command`, which must succeed, and returns what it wrote to standard error.
pub fn succeed_together(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert!(output.status.success(), "{errors}");
    errors
}

/// The processes of the program that `mpirun` started, in the order of their ids, which is that of their numbers.
pub fn processes_of(mpirun: &Child) -> Vec<u32> {
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

pub fn spawn(mpirun: &mut Command) -> Child {
    let piped = mpirun.stderr(Stdio::piped()).stdout(Stdio::null());
    piped.spawn().unwrap()
}

pub fn wait(mut mpirun: Child) -> Output {
    let start = Instant::now();
    while mpirun.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "mpirun does not end");
        sleep(Duration::from_millis(20));
    }
    mpirun.wait_with_output().unwrap()
}
