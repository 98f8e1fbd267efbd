//! Processes that do not agree end before the first step, with the name of what differs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpu_kernels::isa::{self, Isa};
use image::{Rgb, RgbImage};
use resnet_xla::system::{env_info, sha256};

use crate::program::runs::{checkpoints, copy_folder, quick_run};
use crate::program::{executable, program, succeed, take_over, text};
use crate::together::{errors, mpirun_options, side_by_side, together_with};

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

/// The program in `folder` as another build of it: a copy of it and of its library, in which the commit is another.
fn other_build(folder: &Path) -> PathBuf {
    const LIBRARY: &str = "libresnet_xla.so";
    let program = folder.join("resnet-xla");
    let built = fs::read(env!("CARGO_BIN_EXE_resnet-xla")).unwrap();
    executable::write(&program, &built);
    let mut library = fs::read(Path::new(env!("RESNET_XLA_BUILT_IN")).join(LIBRARY)).unwrap();
    let commit = env_info::COMMIT.as_bytes();
    let last = library.len() - commit.len();
    let places: Vec<usize> = (0..last)
        .filter(|&at| library[at..].starts_with(commit))
        .collect();
    assert!(!places.is_empty(), "the library does not say its commit");
    // No digit of a commit.
    places.into_iter().for_each(|at| library[at] = b'x');
    fs::write(folder.join(LIBRARY), library).unwrap();
    program
}

#[test]
fn processes_of_different_builds_all_end() {
    let Some(options) = mpirun_options() else {
        return;
    };
    if env_info::COMMIT == "unknown" {
        eprintln!("skipped: only a build of a commit can be told from another");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let this = program(&quick_run(&run, ""));
    let mut other = Command::new(other_build(folder.path()));
    other.args(this.get_args());
    do_not_agree_on("build", side_by_side(&options, &[], [this, other]));
    assert!(!run.exists());
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
    do_not_agree_on("what computes", command);
}

/// Makes the training step in the folder of a program another one: its name.
fn rename_train_step(program: &Path) {
    // Field 1 of a HloModuleProto, of one byte. What comes last counts.
    const NAME: &[u8] = b"\x0a\x01x";
    const STEP: &str = "train_step.hlo.pb";
    let path = program.join(STEP);
    let mut step = fs::OpenOptions::new().append(true).open(&path).unwrap();
    step.write_all(NAME).unwrap();
    let sum = sha256::sum(&fs::read(&path).unwrap());
    let sums = fs::read_to_string(program.join("SHA256SUMS")).unwrap();
    let lines = sums.lines().map(|line| match line.ends_with(STEP) {
        true => format!("{sum}  {STEP}\n"),
        false => format!("{line}\n"),
    });
    let sums: String = lines.collect();
    fs::write(program.join("SHA256SUMS"), sums).unwrap();
}

#[test]
fn processes_with_different_programs_all_end() {
    let Some(options) = mpirun_options() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [traced, other, run] = ["traced", "other", "run"].map(|name| folder.path().join(name));
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/small.toml");
    let export = ["export", "--program", text(&traced), "--on", "cpu"];
    succeed(&[&export[..], &["--replicas", "2", "--settings", settings]].concat());
    copy_folder(&traced, &other);
    rename_train_step(&other);
    let each = [&traced, &other].map(|folder| {
        let more = ["--program", text(folder)];
        program(&[&quick_run(&run, "")[..], &more].concat())
    });
    do_not_agree_on("program", side_by_side(&options, &[], each));
    // It is the last that they agree on, so the folder is there. It has no step.
    assert!(!run.join("history.csv").exists());
    assert!(checkpoints(&run).is_empty());
}
