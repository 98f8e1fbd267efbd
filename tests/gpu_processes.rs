//! Several processes on GPUs: how they meet, what their plugin gets, and each way in which they do not come together. The
//! plugin is `pjrt/tests/stub_plugin.c`, which asks for the values of the other processes and computes nothing.

mod program;
#[path = "../pjrt/tests/support/stub.rs"]
mod stub;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use program::runs::quick_run;
use program::{program, text};
use resnet_xla::system::proc;
use tempfile::TempDir;

/// The plugin that does what its number says.
#[derive(Clone, Copy)]
enum Stub {
    /// Puts a value and gets those of all; compiles nothing.
    Right = 1,
    /// Gets a value that nobody puts.
    Waits = 2,
    /// Puts another value than the others expect.
    Wrong = 5,
    /// Is killed.
    Dies = 6,
    /// Has a device more in process 0.
    Uneven = 7,
    /// Puts a value and gets those of all; compiles for ever.
    Hangs = 8,
    /// Puts a value and gets those of all; process 0 is slow to close its devices.
    ClosesLate = 9,
}

/// Where a test's processes have their plugins and runs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A plugin whose file name says that it is for GPUs.
    fn plugin(&self, stub: Stub) -> PathBuf {
        let path = self.cache(stub).join("plugins/cuda/xla_cuda_plugin.so");
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            stub::compile(&format!("KEY_VALUE={}", stub as u8), &path);
        }
        path
    }

    /// The folder in which the plugin is where `./setup` would have put it.
    fn cache(&self, stub: Stub) -> PathBuf {
        self.0.path().join(format!("stub{}", stub as u8))
    }

    /// Process `index` of `count` with a plugin, at `address`.
    fn command(&self, stub: Stub, (index, count): (usize, usize), address: &str) -> Command {
        let out = self.0.path().join(format!("run{index}"));
        let options = format!("--processes {count} --process {index} --coordinator {address}");
        let mut command = program(&quick_run(&out, &options));
        command.args(["--plugin", text(&self.plugin(stub))]);
        command
    }

    fn start(&self, stub: Stub, part: (usize, usize), address: &str) -> Process {
        Process::start(self.command(stub, part, address))
    }

    /// Starts process 0 of `count` at any free port, and returns the address that it says.
    fn start_first(&self, stub: Stub, count: usize) -> (Process, String) {
        let mut first = self.start(stub, (0, count), ANY_PORT);
        let address = first.wait_for(" waits for the others at ");
        (first, address)
    }

    /// Process `index` of two under `--device auto`, at `address`, on a machine that seems to have a GPU and whose plugin
    /// lies where it is looked for; none where such a machine cannot be played.
    fn on_machine_with_gpu(&self, stub: Stub, index: usize, address: &str) -> Option<Command> {
        const PLAY: &str = "mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/pci/devices/gpu \
                            && echo 0x10de >/sys/bus/pci/devices/gpu/vendor && exec \"$@\"";
        let played = || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", PLAY, "sh"]);
            command
        };
        let tried = played().arg("true").output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            println!("skipped: only root may play a machine with a GPU");
            return None;
        }
        self.plugin(stub);
        let out = self.0.path().join(format!("run{index}"));
        let options = format!("--processes 2 --process {index} --coordinator {address}");
        let args = quick_run(&out, &options);
        let args = args.into_iter();
        let args: Vec<&str> = args
            .map(|arg| if arg == "cpu" { "auto" } else { arg })
            .collect();
        let alone = program(&args);
        let mut command = played();
        command.arg(alone.get_program()).args(alone.get_args());
        for (name, value) in alone.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("RESNET_XLA_CACHE", self.cache(stub));
        Some(command)
    }

    /// How processes 0 and 1 end, which have these plugins.
    fn run_two(&self, first: Stub, second: Stub) -> [Ended; 2] {
        let (first, address) = self.start_first(first, 2);
        let second = self.start(second, (1, 2), &address);
        [first.end(), second.end()]
    }
}

const ANY_PORT: &str = "127.0.0.1:0";

struct Process {
    child: Child,
    errors: BufReader<ChildStderr>,
    /// What it has said so far.
    said: String,
}

/// The exit code, none where a signal ended it, and all that it said.
type Ended = (Option<i32>, String);

impl Process {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            errors,
            said: String::new(),
        }
    }

    /// What the line says behind `words`, once there is one.
    fn wait_for(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.errors.read_line(&mut line).unwrap();
            self.said += &line;
            assert!(read > 0, "it has ended: {}", self.said);
            if let Some((_, rest)) = line.trim_end().split_once(words) {
                return rest.to_owned();
            }
        }
    }

    fn end(mut self) -> Ended {
        self.errors.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code(), self.said)
    }
}

/// Waits until each process has its devices and compiles for them, and ends all.
fn compile_and_end<const N: usize>(mut processes: [Process; N]) {
    for process in &mut processes {
        process.wait_for("the stub compiles");
    }
    for mut process in processes {
        process.child.kill().unwrap();
        process.end();
    }
}

#[test]
fn processes_meet_and_their_plugins_hear_of_each_other() {
    let place = Place::new();
    let (first, address) = place.start_first(Stub::Hangs, 2);
    let second = place.start(Stub::Hangs, (1, 2), &address);
    compile_and_end([first, second]);
}

#[test]
fn three_processes_meet_in_any_order() {
    let place = Place::new();
    let (first, address) = place.start_first(Stub::Hangs, 3);
    let last = place.start(Stub::Hangs, (2, 3), &address);
    let second = place.start(Stub::Hangs, (1, 3), &address);
    compile_and_end([first, second, last]);
}

#[test]
fn a_value_that_is_another_is_the_plugins_error() {
    let [(code, said), _] = Place::new().run_two(Stub::Right, Stub::Wrong);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("code 13: it has another value"), "{said}");
}

#[test]
fn a_value_that_nobody_puts_is_named_and_a_process_that_ends_over_it_too() {
    let [(first, waited), (second, said)] = Place::new().run_two(Stub::Right, Stub::Waits);
    assert_eq!(second, Some(4), "{said}");
    let late = "code 4: no process gave the key `nobody/puts/this` a value within 0.1 s";
    assert!(said.contains(late), "{said}");
    assert_eq!(first, Some(4), "{waited}");
    let reason = "error: process 1 of 2 cannot open its devices, so all end: the PJRT plugin";
    for said in [said, waited] {
        assert!(said.contains(reason) && said.contains(late), "{said}");
    }
}

#[test]
fn under_auto_a_process_whose_gpus_fail_ends_all_and_none_takes_the_cpu() {
    for failing in [0, 1] {
        let place = Place::new();
        let stub = |index| match index == failing {
            true => Stub::Waits,
            false => Stub::Right,
        };
        let Some(first) = place.on_machine_with_gpu(stub(0), 0, ANY_PORT) else {
            return;
        };
        let mut first = Process::start(first);
        let address = first.wait_for(" waits for the others at ");
        let second = place.on_machine_with_gpu(stub(1), 1, &address).unwrap();
        let reason =
            format!("process {failing} of 2 cannot open its devices, so all end: the PJRT plugin");
        let late = "code 4: no process gave the key `nobody/puts/this` a value";
        for (code, said) in [first, Process::start(second)].map(Process::end) {
            assert_eq!(code, Some(4), "{said}");
            assert!(said.contains(&reason) && said.contains(late), "{said}");
            assert!(!said.contains("taking the CPU"), "{said}");
        }
    }
}

#[test]
fn what_all_processes_find_wrong_each_says_itself_however_late() {
    let place = Place::new();
    let start = |index, address: &str| {
        let mut command = place.command(Stub::ClosesLate, (index, 2), address);
        command.args(["--replicas", "3", "--batch-size", "9"]);
        Process::start(command)
    };
    let mut first = start(0, ANY_PORT);
    let address = first.wait_for(" waits for the others at ");
    for (code, said) in [first, start(1, &address)].map(Process::end) {
        assert_eq!(code, Some(4), "{said}");
        let own = "--replicas 3: 2 processes have 2 devices together";
        assert!(said.contains(own) && !said.contains("ends too"), "{said}");
    }
}

#[test]
fn a_variable_sets_how_long_processes_wait_for_each_other() {
    let place = Place::new();
    let ends = |seconds: &str| {
        let mut command = place.command(Stub::Right, (0, 3), ANY_PORT);
        command.env("RESNET_XLA_MEET_SECONDS", seconds);
        let (code, said) = Process::start(command).end();
        assert_eq!(code, Some(4), "{said}");
        said
    };
    let said = ends("1");
    assert!(
        said.contains("process 1 of 3 did not come to 127.0.0.1:0 (by --coordinator) within 1 s"),
        "{said}"
    );
    let said = ends("long");
    assert!(
        said.contains("RESNET_XLA_MEET_SECONDS is `long`; expected a whole number"),
        "{said}"
    );
}

#[test]
fn the_end_of_process_0_is_told_to_the_others() {
    let [(first, _), (second, said)] = Place::new().run_two(Stub::Dies, Stub::Right);
    assert_eq!(first, None);
    assert_eq!(second, Some(4), "{said}");
    assert!(said.contains("process 0 at 127.0.0.1:"), "{said}");
    assert!(said.contains(" has ended, or the network to it"), "{said}");
}

#[test]
fn a_process_that_is_killed_ends_the_others_with_its_name() {
    for killed in [0, 1] {
        let place = Place::new();
        let (first, address) = place.start_first(Stub::Hangs, 2);
        let mut both = [first, place.start(Stub::Hangs, (1, 2), &address)];
        for process in &mut both {
            process.wait_for("the stub compiles");
        }
        both[killed].child.kill().unwrap();
        let [_, (code, said)] = match (killed, both) {
            (0, [first, second]) => [first.end(), second.end()],
            (_, [first, second]) => [second.end(), first.end()],
        };
        assert_eq!(code, Some(1), "{said}");
        let host = proc::hostname().unwrap();
        let ended = match killed {
            0 => format!("error: process 0 at {address} has ended"),
            _ => format!("error: process 1 of 2, on {host}, has ended"),
        };
        assert!(said.contains(&ended), "{said}");
        assert!(said.contains("go on with --resume"), "{said}");
    }
}

/// Process `index` of `count` at `address`, which compiles for ever; another that gives no sign of life for 3 s hangs.
fn start_impatient(place: &Place, part: (usize, usize), address: &str) -> Process {
    let mut command = place.command(Stub::Hangs, part, address);
    command.env("RESNET_XLA_HANG_SECONDS", "3");
    Process::start(command)
}

/// Checks that a process has ended because process `silent` of `count` hangs.
fn assert_named((code, said): &Ended, silent: usize, count: usize) {
    let host = proc::hostname().unwrap();
    let expected =
        format!("error: process {silent} of {count}, on {host}, has given no sign of life for 3 s");
    assert_eq!(*code, Some(1), "{said}");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("go on with --resume"), "{said}");
}

#[test]
fn a_process_that_hangs_is_named_by_all_others_which_end() {
    for hanging in [0, 2] {
        let place = Place::new();
        let mut first = start_impatient(&place, (0, 3), ANY_PORT);
        let address = first.wait_for(" waits for the others at ");
        let others = [1, 2].map(|index| start_impatient(&place, (index, 3), &address));
        let mut all: Vec<Process> = [first].into_iter().chain(others).collect();
        for process in &mut all {
            process.wait_for("the stub compiles");
        }
        let mut stopped = all.remove(hanging);
        // SAFETY: the signal goes to a process that this test started and has not waited for.
        let sent = unsafe { libc::kill(stopped.child.id() as i32, libc::SIGSTOP) };
        assert_eq!(sent, 0);
        for process in all {
            assert_named(&process.end(), hanging, 3);
        }
        stopped.child.kill().unwrap();
        stopped.end();
    }
}

/// A line to `address` that can be cut: its connections stay open, and nothing passes any more.
struct Line {
    address: String,
    is_cut: Arc<AtomicBool>,
}

impl Line {
    fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::new(AtomicBool::new(false));
        let (address, shared) = (address.to_owned(), Arc::clone(&is_cut));
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&address).unwrap());
                let ends = [(&near, &far), (&far, &near)];
                for (from, to) in ends.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    let is_cut = Arc::clone(&shared);
                    thread::spawn(move || carry(from.unwrap(), to.unwrap(), &is_cut));
                }
            }
        });
        Self {
            address: own,
            is_cut,
        }
    }
}

/// Carries what comes `from` one end `to` the other, until the line is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut bytes = [0; 4096];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        while is_cut.load(Ordering::SeqCst) {
            thread::park();
        }
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

#[test]
fn a_network_that_is_gone_ends_the_processes_on_both_sides() {
    let place = Place::new();
    let mut first = start_impatient(&place, (0, 2), ANY_PORT);
    let line = Line::to(&first.wait_for(" waits for the others at "));
    let second = start_impatient(&place, (1, 2), &line.address);
    let mut both = [first, second];
    for process in &mut both {
        process.wait_for("the stub compiles");
    }
    line.is_cut.store(true, Ordering::SeqCst);
    let [first, second] = both.map(Process::end);
    assert_named(&first, 1, 2);
    assert_named(&second, 0, 2);
}

#[test]
fn processes_with_other_numbers_of_devices_are_refused() {
    for (code, said) in Place::new().run_two(Stub::Uneven, Stub::Uneven) {
        assert_eq!(code, Some(4), "{said}");
        let counts = "2 processes have 3 devices together, and this one has 1";
        assert!(said.contains(counts), "{said}");
    }
}

#[test]
fn another_number_of_processes_ends_all_of_them() {
    let place = Place::new();
    let (first, address) = place.start_first(Stub::Right, 3);
    let other = place.start(Stub::Right, (1, 2), &address);
    let expected = "process 0 says that there are 3 processes, and process 1 that there are 2";
    for (code, said) in [first.end(), other.end()] {
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn two_processes_with_one_number_end_the_run() {
    let place = Place::new();
    let (first, address) = place.start_first(Stub::Right, 3);
    let twins = [0, 1].map(|_| place.start(Stub::Right, (1, 3), &address));
    let expected = "two processes say that they are process 1 of 3";
    for (code, said) in [first.end()].into_iter().chain(twins.map(Process::end)) {
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// The error text of a command that must end with exit code 2.
fn usage(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    errors
}

#[test]
fn without_an_address_the_error_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--processes 2 --process 0 --device gpu";
    let asked = |options: &str| {
        let mut command = program(&["--out-dir", text(&out)]);
        command.args(options.split_whitespace());
        command.env_remove("MASTER_ADDR").env_remove("MASTER_PORT");
        command
    };
    let errors = usage(&mut asked(options));
    for part in [
        "there are 2 processes",
        "--coordinator HOST:PORT",
        "MASTER_ADDR and MASTER_PORT",
    ] {
        assert!(errors.contains(part), "no {part} in {errors}");
    }
    let mut wrong = asked(options);
    let errors = usage(wrong.env("MASTER_ADDR", "node1").env("MASTER_PORT", "any"));
    let named = "MASTER_ADDR, MASTER_PORT say `node1:any`: expected HOST:PORT";
    assert!(errors.contains(named), "{errors}");
    let errors = usage(&mut asked("--device cpu --coordinator node1:29500"));
    assert!(
        errors.contains("--coordinator is for several processes"),
        "{errors}"
    );
}

#[test]
fn the_doctor_says_where_processes_meet() {
    let mut doctor = program(&["doctor", "--device", "cpu"]);
    doctor.env("WORLD_SIZE", "4").env("RANK", "3");
    doctor
        .env("MASTER_ADDR", "node1")
        .env("MASTER_PORT", "29500");
    let output = doctor.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for line in [
        "processes   process 3 of 4, by torchrun: WORLD_SIZE, RANK",
        "  GPUs      meet at node1:29500, by MASTER_ADDR, MASTER_PORT",
    ] {
        assert!(said.lines().any(|said| said == line), "no {line} in {said}");
    }
}
