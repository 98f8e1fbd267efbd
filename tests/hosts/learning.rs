//! What processes compute together, and where it is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

use image::{Rgb, RgbImage};

use crate::program::runs::{assert_same_end, checkpoints, quick_run};
use crate::program::{program, succeed, take_over, text};
use crate::together::{errors, mpirun_options, succeed_together, together, together_with};

/// Epochs of five steps, and all test images after each. The learning rate is low because the network is chaotic at its
/// usual one: there, one process with two replicas and with four differ by 1 % after eight steps.
const CALM: &str = "--steps-per-epoch 5 --batch-size 32 --lr 0.001 --epochs";

/// The losses of each epoch, in training and in validation.
fn losses(run: &Path) -> Vec<f64> {
    let content = fs::read_to_string(run.join("history.csv")).unwrap();
    let rows = content.lines().skip(1).flat_map(|row| {
        let columns: Vec<&str> = row.split(',').collect();
        [columns[1], columns[3]].map(|loss| loss.parse().unwrap())
    });
    rows.collect()
}

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
