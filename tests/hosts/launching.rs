//! Who is who, and what is refused where nobody says it.

use std::process::Command;

use resnet_xla::device::mpi;

use crate::program::runs::quick_run;
use crate::program::{fail, program, take_over, text};
use crate::together::{errors, together};

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
        println!("skipped: there is no library for MPI to hide; ./setup mpi makes it");
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
