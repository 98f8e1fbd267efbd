//! The build without the XLA runtime (`--no-default-features`): one file that runs exported programs on a plugin, alone
//! on a machine.

mod program;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::plugins::cpu_plugin;
use program::runs::assert_same_end;
use program::{executable, succeed, text};
use serde_json::Value;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/small.toml");
const FULL: &str = env!("CARGO_BIN_EXE_resnet-xla");
/// A user that nobody is.
const USER: u32 = 3_141_599;
const MOST_BYTES: u64 = 25_000_000;

/// The small program; `None`, with the reason printed, where it was not built.
fn small() -> Option<PathBuf> {
    let small = program::small::small();
    if small.is_none() {
        println!("skipped: the small build, which is not there, is what is tested here");
    }
    small
}

/// A folder with nothing but the small program, a program to run, and the CPU plugin: all that another user gets.
struct Alone {
    folder: tempfile::TempDir,
    /// `None` where this process may not become another user.
    user: Option<u32>,
}

impl Alone {
    /// `None`, with the reason printed, where there is no small program or no plugin.
    fn new() -> Option<Self> {
        let (small, plugin) = (small()?, cpu_plugin()?);
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        executable::write(&path("resnet-xla"), &fs::read(small).unwrap());
        if fs::hard_link(&plugin, path("libpjrt_cpu.so")).is_err() {
            fs::copy(&plugin, path("libpjrt_cpu.so")).unwrap();
        }
        let program = path("program");
        // The plugin runs the kernels where the processor does.
        let on = match cpu_kernels::supported() {
            true => "cpu",
            false => "cpu-plugin",
        };
        let args = ["export", "--settings", SMALL, "--on", on];
        succeed(&[&args[..], &["--program", text(&program)]].concat());
        // SAFETY: geteuid has no conditions.
        let is_root = unsafe { libc::geteuid() } == 0;
        if is_root {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            chown(folder.path(), Some(USER), Some(USER)).unwrap();
        } else {
            println!("skipped: running as another user, which only root can become");
        }
        let user = is_root.then_some(USER);
        Some(Self { folder, user })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts CIFAR-10 there too, as `resnet-xla fetch` left it; false, with the reason printed, where it did not.
    fn take_cifar10(&self) -> bool {
        const NAME: &str = "data/cifar-10-batches-bin";
        let Ok(files) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(NAME)) else {
            println!("skipped: there is no {NAME}; `resnet-xla fetch` makes it");
            return false;
        };
        let folder = self.path(NAME);
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            let from = file.unwrap().path();
            let to = folder.join(from.file_name().unwrap());
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).unwrap();
            }
        }
        true
    }

    /// Runs `program` there with the words of `args`, as another user, in an environment that is empty.
    fn call(&self, program: &str, args: &str) -> Output {
        let mut command = Command::new(program);
        command.args(args.split_whitespace()).env_clear();
        command.current_dir(self.folder.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.output().unwrap()
    }

    /// What the small program prints, which must succeed.
    fn run(&self, args: &str) -> String {
        printed(self.call(text(&self.path("resnet-xla")), args))
    }
}

fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_does_alone_what_the_full_build_does_with_the_same_bits() {
    let Some(alone) = Alone::new() else { return };
    const ON: &str = "--program program --plugin libpjrt_cpu.so --compile-cache cache";
    const TRAIN: &str = "--eval-steps 2 --checkpoint-every 5 --steps-per-epoch 10";
    alone.run(&format!("train {ON} {TRAIN} --max-steps 13 --out-dir run"));
    alone.run("--resume --out-dir run --max-steps 20");
    let full = |args: &str| {
        let mut command = Command::new(FULL);
        command.args(args.split_whitespace()).env_clear();
        printed(command.current_dir(alone.folder.path()).output().unwrap())
    };
    const FULL_ON: &str = "--plugin libpjrt_cpu.so";
    fs::copy(SMALL, alone.path("small.toml")).unwrap();
    full(&format!(
        "-c small.toml {FULL_ON} {TRAIN} --max-steps 20 --out-dir full"
    ));
    assert_same_end(&alone.path("run"), &alone.path("full"));

    for command in [
        "eval --json --steps 3 --batch-size 8",
        "predict --json --index 3,1,2 --out picture.png",
    ] {
        let command = format!("{command} --checkpoint run");
        let ours = alone.run(&format!("{command} {ON}"));
        assert_eq!(ours, full(&format!("{command} {FULL_ON}")), "{command}");
    }
    for bench in [
        "--steps 3 --warmup 1",
        "--steps 2 --warmup 2 --init-weights run/checkpoints/step-00000020.safetensors",
    ] {
        let bench = format!("bench --json --program program {bench}");
        let timed = |printed: String| serde_json::from_str::<Value>(&printed).unwrap();
        let ours = timed(alone.run(&format!("{bench} --plugin libpjrt_cpu.so")));
        let full = timed(full(&format!("{bench} {FULL_ON}")));
        for key in [
            "model",
            "batch_size",
            "lowering",
            "n",
            "first_loss",
            "last_loss",
        ] {
            assert_eq!(ours[key], full[key], "{key}");
        }
    }
    alone.run(&format!("report run {ON} --out page.html"));
    alone.run("plot run");
    alone.run("export --checkpoint run --out model.onnx");
    let runs: Value = serde_json::from_str(&alone.run("runs . --json")).unwrap();
    assert_eq!(runs[0]["state"], "stopped", "{runs}");
    let doctor = alone.run("doctor --plugin libpjrt_cpu.so");
    assert!(doctor.contains("runtime     none"), "{doctor}");
    let kernels = match cpu_kernels::supported() {
        true => "kernels     for ",
        false => "kernels     not used: ",
    };
    assert!(doctor.contains(kernels), "{doctor}");
    assert!(doctor.contains(": works, 1 replica"), "{doctor}");
}

#[test]
fn it_trains_on_data_that_was_carried_with_the_same_bits() {
    let Some(alone) = Alone::new() else { return };
    if !alone.take_cifar10() {
        return;
    }
    const RUN: &str = "--dataset cifar10 --data-dir data --epochs 1 --steps-per-epoch 2 --eval-steps 1 --plugin \
                       libpjrt_cpu.so";
    alone.run(&format!("train --program program {RUN} --out-dir run"));
    let mut full = Command::new(FULL);
    full.args(format!("-c {SMALL} {RUN} --out-dir full").split_whitespace());
    printed(
        full.env_clear()
            .current_dir(alone.folder.path())
            .output()
            .unwrap(),
    );
    assert_same_end(&alone.path("run"), &alone.path("full"));
}

#[test]
fn it_times_the_host_s_side_of_training() {
    let (Some(small), Some(plugin)) = (small(), cpu_plugin()) else {
        return;
    };
    for (args, rate) in [
        ("--input", "decode_images_per_sec"),
        ("--host --plugin", "uploaded_images_per_sec"),
    ] {
        let mut program = Command::new(&small);
        program
            .args(["bench", "--json", "--epochs", "1"])
            .env_clear();
        program.args(args.split_whitespace());
        if args.ends_with("--plugin") {
            program.arg(&plugin);
        }
        let report: Value = serde_json::from_str(&printed(program.output().unwrap())).unwrap();
        assert!(report[rate].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn what_needs_tracing_is_refused_with_the_build_that_has_it() {
    let Some(small) = small() else { return };
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "train",
        "--preset quick",
        "eval",
        "predict",
        "bench",
        "bench --ops",
        "compile --target cpu",
        "export --program out --on cpu-plugin",
    ] {
        let mut program = Command::new(&small);
        program.args(command.split_whitespace()).env_clear();
        let output = program.current_dir(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.contains("--program DIR") && errors.contains("full build"),
            "{command}: {errors}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn it_is_one_file_that_needs_the_c_library_alone() {
    let Some(small) = small() else { return };
    let bytes = fs::metadata(&small).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    let output = Command::new("readelf")
        .args(["--dynamic", "--wide", text(&small)])
        .output()
        .unwrap();
    let listed = printed(output);
    let needed: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    const OF_THE_SYSTEM: [&str; 5] = ["libc.", "libm.", "libgcc_s.", "libdl.", "ld-linux"];
    let is_of_system = |name: &str| OF_THE_SYSTEM.iter().any(|start| name.starts_with(start));
    assert!(!needed.is_empty(), "{listed}");
    assert!(needed.iter().all(|name| is_of_system(name)), "{needed:?}");
}
