//! The hosts of a TPU slice, as far as two processes can play them: `tests/faults/slice_plugin.c` joins them by itself, and
//! adds up over their chips. It computes nothing else, so a run ends where its training step is compiled; or it plays steps
//! that change nothing, where a test is about the end of a run that trains.

mod program;

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use program::runs::{checkpoints, quick_run, signal, wait_for_another_checkpoint};
use program::shims::compile;
use program::{program, succeed, text};
use resnet_xla::system::proc;
use tempfile::TempDir;

/// The plugin's words for a training step.
const NO_STEP: &str = "the played slice adds up over its chips and computes nothing else";

/// Where hosts meet to watch each other: any port that is free, which process 0 tells the other.
const ANY_PORT: &str = "--coordinator 127.0.0.1:0";

/// A run that is saved after every second step and goes on until it is ended.
const ENDLESS: &str =
    "--epochs 100000 --steps-per-epoch 6 --eval-steps 1 --checkpoint-every 2 --keep 3";

/// So many seconds without a sign of life pass on no machine, however busy.
const LONG: &str = "600";

/// What the program says that goes on without a watch.
const UNWATCHED: &str = "warning: the processes do not watch each other: ";

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
        let options = format!("--eval-steps 1 --max-steps 2 --resume {ANY_PORT}");
        self.command(host, &quick_run(Path::new("run"), &options))
    }

    /// A run with `options` in the folder `run`, with steps that are played.
    fn train(&self, host: usize, options: &str) -> Command {
        let mut command = self.command(host, &quick_run(Path::new("run"), options));
        command.env("SLICE_TRAINS", "1");
        command
    }

    /// What `host` has said so far.
    fn said(&self, host: usize) -> PathBuf {
        self.path(&format!("said-{host}"))
    }

    /// Starts an endless run with `more` options on both hosts, where one hangs that gives no sign of life for
    /// `hang_seconds`, and returns once it has saved a step.
    fn start_endless(&self, more: &str, hang_seconds: &str) -> [Child; 2] {
        let options = format!("{ENDLESS} {ANY_PORT} {more}");
        let mut hosts = [0, 1].map(|host| {
            let mut command = self.train(host, &options);
            command.env("RESNET_XLA_HANG_SECONDS", hang_seconds);
            command.stdout(Stdio::null());
            command.stderr(File::create(self.said(host)).unwrap());
            command.spawn().unwrap()
        });
        wait_for_another_checkpoint(&self.host(0).join("run"), &mut hosts[0]);
        hosts
    }

    /// How `child` ends, which is started on `host`.
    fn end(&self, host: usize, child: &mut Child) -> Ended {
        let code = child.wait().unwrap().code();
        (code, fs::read_to_string(self.said(host)).unwrap())
    }

    /// Goes on with the endless run until it has saved another step, and then ends it by a signal to host 1.
    fn goes_on_and_is_stopped(&self) {
        let mut hosts = self.start_endless("--resume", LONG);
        signal(&hosts[1], "TERM");
        for (host, child) in hosts.iter_mut().enumerate() {
            let (code, said) = self.end(host, child);
            assert_eq!(code, Some(143), "{said}");
            assert!(!said.contains("ends too"), "{said}");
        }
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
        let options = format!("--seed {host} {ANY_PORT}");
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
        command.args(ANY_PORT.split(' '));
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
fn a_host_that_is_killed_in_training_ends_the_other_with_its_name_and_the_run_goes_on() {
    let machine = proc::hostname().unwrap();
    let named = [
        "error: process 0 at 127.0.0.1:".to_owned(),
        format!("error: process 1 of 2, on {machine}, has ended, or the network to it"),
    ];
    for (killed, named) in named.iter().enumerate() {
        let slice = Slice::new();
        let run = slice.host(0).join("run");
        let mut hosts = slice.start_endless("", LONG);
        let saved = checkpoints(&run).pop();
        hosts[killed].kill().unwrap();
        hosts[killed].wait().unwrap();
        let other = 1 - killed;
        let (code, said) = slice.end(other, &mut hosts[other]);
        assert_eq!(code, Some(1), "{said}");
        let own =
            format!("Process {other} ends too; what was saved is intact, go on with --resume");
        for part in [named, &own] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(checkpoints(&run).pop() >= saved);
        slice.goes_on_and_is_stopped();
    }
}

#[test]
fn a_host_that_hangs_in_training_ends_the_other_with_its_name_and_the_run_goes_on() {
    let machine = proc::hostname().unwrap();
    for hanging in [0, 1] {
        let slice = Slice::new();
        let mut hosts = slice.start_endless("", "3");
        signal(&hosts[hanging], "STOP");
        let other = 1 - hanging;
        let (code, said) = slice.end(other, &mut hosts[other]);
        assert_eq!(code, Some(1), "{said}");
        let named = format!(
            "error: process {hanging} of 2, on {machine}, has given no sign of life for 3 s"
        );
        for part in [&named, "go on with --resume"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        hosts[hanging].kill().unwrap();
        hosts[hanging].wait().unwrap();
        slice.goes_on_and_is_stopped();
    }
}

/// Checks that both hosts train to the end, with a `change` of their commands; what they said.
fn trained_to_the_end(slice: &Slice, change: impl Fn(&mut Command)) -> [String; 2] {
    let options = "--epochs 1 --steps-per-epoch 3 --eval-steps 1 --overwrite";
    let start = |host| {
        let mut command = slice.train(host, options);
        change(&mut command);
        command
    };
    let said = Slice::run_both([0, 1].map(start)).map(|(code, said)| {
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("ends too"), "{said}");
        said
    });
    assert!(slice.host(0).join("run/result.json").exists());
    said
}

#[test]
fn hosts_that_watch_each_other_part_at_the_end_of_the_run() {
    let slice = Slice::new();
    let said = trained_to_the_end(&slice, |command| {
        command.args(ANY_PORT.split(' '));
    });
    let meet = "process 0 of 2 waits for the others at 127.0.0.1:";
    assert!(said[0].contains(meet), "{}", said[0]);
    assert!(!said.concat().contains(UNWATCHED), "{}", said.concat());
}

#[test]
fn where_process_0_cannot_listen_the_run_goes_on_unwatched_and_says_so() {
    let slice = Slice::new();
    // If another program has it, it is taken just as well.
    let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 29_500));
    let said = trained_to_the_end(&slice, |_| {});
    let line = said[0].lines().find(|line| line.contains(UNWATCHED));
    let line = line.unwrap_or_else(|| panic!("{}", said[0]));
    for part in [
        ":29500 (by the address of process 0's machine)",
        "--coordinator HOST:PORT",
        "RESNET_XLA_HANG_SECONDS=0",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!said[1].contains(UNWATCHED), "{}", said[1]);

    // Nobody tries where no process counts as hanging.
    let said = trained_to_the_end(&slice, |command| {
        command.env("RESNET_XLA_HANG_SECONDS", "0");
    });
    for word in [UNWATCHED, "waits for the others"] {
        assert!(!said.concat().contains(word), "{}", said.concat());
    }
}

#[test]
fn a_host_that_does_not_reach_the_place_that_was_asked_for_is_named_and_all_end() {
    let slice = Slice::new();
    let options = format!("--max-steps 1 {ANY_PORT}");
    let [first, alone] = [0, 1].map(|host| {
        let mut command = slice.train(host, &options);
        command.env("RESNET_XLA_MEET_SECONDS", "1");
        command
    });
    // A network of its own, in which nothing leads to the other host.
    let mut second = Command::new("unshare");
    second.arg("--net").arg(alone.get_program());
    second.args(alone.get_args());
    second.current_dir(slice.host(1));
    for (name, value) in alone.get_envs() {
        match value {
            Some(value) => second.env(name, value),
            None => second.env_remove(name),
        };
    }
    let tried = Command::new("unshare").args(["--net", "true"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: only root may give a process a network of its own");
        return;
    }
    let missing = "process 1 of 2 did not come to 127.0.0.1:0 (by --coordinator) within 1 s";
    let silent = "error: process 1 of 2 found no process 0 at 127.0.0.1:";
    let ended = Slice::run_both([first, second]);
    for ((code, said), expected) in ended.into_iter().zip([missing, silent]) {
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(expected), "no {expected} in {said}");
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
