//! The hosts of a TPU slice, as far as two processes can play them: `tests/faults/slice_plugin.c` joins them by itself, and
//! adds up over their chips. It computes nothing else, so a run ends where its training step is compiled.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use program::runs::quick_run;
use program::shims::compile;
use program::{program, succeed, text};
use resnet_xla::system::proc;
use tempfile::TempDir;

/// The plugin's words for a training step.
const NO_STEP: &str = "the played slice adds up over its chips and computes nothing else";

/// Two hosts, which share no disk: each has a folder of its own.
struct Slice(TempDir);

/// The exit code, and all that it said.
type Ended = (Option<i32>, String);

impl Slice {
    fn new() -> Self {
        let slice = Self(tempfile::tempdir().unwrap());
        let include = Path::new(&std::env::var("XLA_EXTENSION_DIR").unwrap()).join("include");
        let flags = ["-I", text(&include)];
        compile("cc", "slice_plugin.c", &slice.path("slice.so"), &flags);
        for host in [0, 1] {
            fs::create_dir(slice.host(host)).unwrap();
            let pipe = slice.path(&format!("from-{host}"));
            let made = Command::new("mkfifo").arg(pipe).status();
            assert!(made.unwrap().success());
        }
        slice
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn host(&self, host: usize) -> PathBuf {
        self.path(&format!("host-{host}"))
    }

    /// The program on `host`, in its folder.
    fn command(&self, host: usize, args: &[&str]) -> Command {
        self.on(host, program(args))
    }

    /// The program that `command` starts, on `host` and in its folder.
    fn on(&self, host: usize, mut command: Command) -> Command {
        command.args(["--plugin", text(&self.path("slice.so"))]);
        command.current_dir(self.host(host));
        command
            .env("SLICE_PROCESS", host.to_string())
            .env("SLICE_FOLDER", self.0.path());
        for name in ["TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"] {
            command.env_remove(name);
        }
        command
    }

    /// How both hosts end that run these commands side by side.
    fn run_both(commands: [Command; 2]) -> [Ended; 2] {
        let start = |mut command: Command| -> Child {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        commands.map(start).map(|child| {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), said)
        })
    }

    /// Makes a run of one step in the folder `run` of `host`.
    fn begin(&self, host: usize, momentum: &str) {
        let run = self.host(host).join("run");
        let options = format!("--eval-steps 1 --max-steps 1 --momentum {momentum}");
        succeed(&quick_run(&run, &options));
    }

    /// Goes on with the run that host 0 has in its folder `run`.
    fn resume(&self, host: usize) -> Command {
        let options = "--eval-steps 1 --max-steps 2 --resume";
        self.command(host, &quick_run(Path::new("run"), options))
    }
}

/// Checks that both hosts have agreed on everything, which is so when they compile the training step.
fn have_agreed(hosts: [Ended; 2]) {
    for (who, (code, said)) in ["", "process 1 of 2: "].iter().zip(hosts) {
        assert_eq!(code, Some(1), "{said}");
        let at = format!("error: {who}compiling train_step: ");
        for part in [at.as_str(), NO_STEP] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
}

#[test]
fn a_run_that_only_host_0_sees_goes_on_on_all() {
    let slice = Slice::new();
    slice.begin(0, "0.8");
    have_agreed(Slice::run_both([0, 1].map(|host| slice.resume(host))));
    assert_eq!(fs::read_dir(slice.host(1)).unwrap().count(), 0);

    // Another run in the folder of that name does not count.
    slice.begin(1, "0.7");
    let config = slice.host(1).join("run/config.toml");
    let before = fs::read(&config).unwrap();
    have_agreed(Slice::run_both([0, 1].map(|host| slice.resume(host))));
    assert_eq!(fs::read(&config).unwrap(), before);
}

#[test]
fn host_0_is_the_one_that_the_plugin_says_whatever_variables_say() {
    let slice = Slice::new();
    slice.begin(0, "0.8");
    let misled = [0, 1].map(|host| {
        let mut command = slice.resume(host);
        command.env("TPU_WORKER_HOSTNAMES", "worker-0,worker-1");
        command.env("TPU_WORKER_ID", (1 - host).to_string());
        command
    });
    have_agreed(Slice::run_both(misled));
}

#[test]
fn where_host_0_has_no_run_to_go_on_with_all_say_so() {
    let slice = Slice::new();
    slice.begin(1, "0.8");
    let [first, second] = Slice::run_both([0, 1].map(|host| slice.resume(host)));
    let nothing = "--resume: run holds no checkpoint to resume from";
    let machine = proc::hostname().unwrap();
    let told = format!(
        "error: process 1 of 2: process 0, on {machine}, whose folder of the run counts, cannot go on with it: {nothing}"
    );
    for ((code, said), expected) in [(first, &format!("error: {nothing}")), (second, &told)] {
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "no {expected} in {said}");
    }
}

#[test]
fn hosts_with_other_settings_all_end_with_the_name_of_the_setting() {
    let slice = Slice::new();
    let start = |host: usize| {
        let options = format!("--seed {host}");
        slice.command(host, &quick_run(Path::new("run"), &options))
    };
    for (host, (code, said)) in Slice::run_both([0, 1].map(start)).into_iter().enumerate() {
        assert_eq!(code, Some(2), "{said}");
        let expected = format!(
            "the processes do not agree on `seed`: process 1 has another than process 0; here, on process {host}, it is {host}."
        );
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn hosts_with_the_build_that_traces_nothing_agree_too() {
    let Some(small) = program::small::small() else {
        println!("skipped: the small build, which is not there, is what is tested here");
        return;
    };
    let slice = Slice::new();
    let traced = slice.path("program");
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/small.toml");
    let export = ["export", "--program", text(&traced), "--on", "tpu"];
    succeed(&[&export[..], &["--replicas", "4", "--settings", settings]].concat());
    let start = |host: usize| {
        let mut command = Command::new(&small);
        command.args(["--program", text(&traced), "--out-dir", "run"]);
        slice.on(host, command)
    };
    for (code, said) in Slice::run_both([0, 1].map(start)) {
        assert_eq!(code, Some(4), "{said}");
        assert!(
            said.contains("train_step") && said.contains(NO_STEP),
            "{said}"
        );
    }
}

#[test]
fn the_doctor_says_which_process_each_host_is_by_its_plugin() {
    let slice = Slice::new();
    let chips = [["chip 0", "chip 2"], ["chip 1", "chip 3"]];
    for (host, chips) in chips.iter().enumerate() {
        let output = slice.command(host, &["doctor"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        let expected = [
            "device      a chip that is played: works, 4 replicas".to_owned(),
            format!("            process {host} of 2, by its plugin"),
        ];
        let chips = chips.iter().map(|chip| format!("            {chip}"));
        for line in expected.into_iter().chain(chips) {
            assert!(
                said.lines().any(|said| said == line),
                "no {line:?} in {said}"
            );
        }
    }
}

#[test]
fn a_command_for_one_host_is_refused_on_a_slice() {
    let slice = Slice::new();
    slice.begin(0, "0.8");
    let output = slice.command(0, &["eval", "--checkpoint", "run"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    let expected = "the devices are those of 2 hosts, and this command runs on one";
    assert!(said.contains(expected), "{said}");
}
