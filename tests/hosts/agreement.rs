//! Processes that do not agree end before the first step, with the name of what differs.

use std::fs;
use std::path::Path;
use std::process::Command;

use cpu_kernels::isa::{self, Isa};
use image::{Rgb, RgbImage};

use crate::program::runs::quick_run;
use crate::program::{program, succeed};
use crate::together::{errors, mpirun_options, side_by_side, take_over, together_with};

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
