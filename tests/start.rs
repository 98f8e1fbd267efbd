//! How the program starts: with the libraries that it was built with, or with words that say what is missing.

mod program;

#[path = "../xla_graphs/link_runtime.rs"]
#[allow(dead_code, reason = "the rest is for build scripts")]
mod link_runtime;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use program::plugins::cpu_plugin;
use program::runs::quick_run;
use program::{program, text};
use tempfile::TempDir;

/// Where the runtime's and the program's library are, as the program knows it.
const RUNTIME: &str = env!("RESNET_XLA_RUNTIME_DIR");
const RUNTIME_FILES: &str = env!("RESNET_XLA_RUNTIME_FILES");
const BUILT_IN: &str = env!("RESNET_XLA_BUILT_IN");

const LIBRARY: &str = "libresnet_xla.so";

/// A folder name with all that a shell, a linker or a list of words may trip over.
const ODD: &str = "a dir, with 'quotes' \"2\" #1 100% $x é";

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The standard error of a program that must have ended with `code`.
fn errors(output: &Output, code: i32) -> String {
    let errors = words(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    errors
}

fn run_ok(command: &mut Command) {
    let output = command.output().unwrap();
    errors(&output, 0);
}

/// A copy of the program in a folder of its own, which for each of `gone` believes in a folder that is not there.
struct Moved {
    folder: TempDir,
}

impl Moved {
    fn new(gone: &[&str]) -> Self {
        let moved = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        moved.bring(
            Path::new(env!("CARGO_BIN_EXE_resnet-xla")),
            "resnet-xla",
            gone,
        );
        moved
    }

    fn bring(&self, from: &Path, name: &str, gone: &[&str]) {
        let mut bytes = fs::read(from).unwrap();
        for path in gone {
            assert!(replace(&mut bytes, path) > 0, "{name} does not name {path}");
        }
        program::executable::write(&self.folder.path().join(name), &bytes);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("resnet-xla"));
        program::take_environment(&mut command, &program(args));
        command.args(args).env_remove("LD_LIBRARY_PATH");
        command
    }

    /// What `args` print when they end with `code`: on standard output, on standard error.
    fn run(&self, args: &[&str], code: i32) -> (String, String) {
        let output = self.command(args).output().unwrap();
        (words(&output.stdout), errors(&output, code))
    }
}

/// `path` as a program names it that believes in a folder that is not there: as long as before.
fn gone(path: &str) -> String {
    format!("{}~", &path[..path.len() - 1])
}

/// Puts [`gone`] in the place of each `path` in `bytes`.
fn replace(bytes: &mut [u8], path: &str) -> usize {
    let finder = path.as_bytes();
    let mut count = 0;
    let mut start = 0;
    while let Some(at) = bytes[start..]
        .windows(finder.len())
        .position(|part| part == finder)
    {
        start += at + finder.len();
        bytes[start - 1] = b'~';
        count += 1;
    }
    count
}

#[test]
fn another_tensorflow_on_the_search_path_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    for name in RUNTIME_FILES.split('/') {
        fs::write(folder.path().join(name), "another one").unwrap();
    }
    for args in [
        &["--version"][..],
        &["summary"],
        &["doctor", "--device", "cpu"],
    ] {
        let output = program(args)
            .env("LD_LIBRARY_PATH", folder.path())
            .output()
            .unwrap();
        errors(&output, 0);
    }
}

#[test]
fn a_program_that_was_moved_takes_the_library_from_where_it_was_built() {
    let (table, _) = Moved::new(&[]).run(&["summary"], 0);
    assert!(table.contains("Total params"), "{table}");
}

#[test]
fn a_program_that_was_moved_with_its_library_needs_nothing_of_where_it_was_built() {
    let moved = Moved::new(&[BUILT_IN]);
    moved.bring(&Path::new(BUILT_IN).join(LIBRARY), LIBRARY, &[]);
    let (table, _) = moved.run(&["summary"], 0);
    assert!(table.contains("Total params"), "{table}");
}

#[test]
fn a_program_without_its_library_says_where_it_looked() {
    let moved = Moved::new(&[BUILT_IN]);
    let (_, error) = moved.run(&["summary"], 1);
    for part in [
        "there is no libresnet_xla.so",
        &gone(BUILT_IN),
        text(moved.folder.path()),
        "into the program's folder",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_program_whose_runtime_is_gone_names_its_folder_and_setup() {
    let moved = Moved::new(&[BUILT_IN, RUNTIME]);
    moved.bring(&Path::new(BUILT_IN).join(LIBRARY), LIBRARY, &[RUNTIME]);
    let (_, error) = moved.run(&["summary"], 1);
    for part in [gone(RUNTIME).as_str(), "./setup", "error: the XLA runtime"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    for name in RUNTIME_FILES.split('/') {
        assert!(error.contains(name), "{name} is not in {error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");

    let (report, error) = moved.run(&["doctor"], 1);
    assert!(report.contains("libresnet_xla.so: found"), "{report}");
    for name in RUNTIME_FILES.split('/') {
        let line = format!("{name}: not there");
        assert!(report.contains(&line), "{line} is not in {report}");
    }
    assert!(error.contains("./setup"), "{error}");

    let (version, _) = moved.run(&["--version"], 0);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn a_library_that_is_none_is_named_once() {
    let moved = Moved::new(&[]);
    let library = moved.folder.path().join(LIBRARY);
    fs::write(&library, "no library").unwrap();
    let (_, error) = moved.run(&["summary"], 1);
    assert_eq!(error.matches(text(&library)).count(), 1, "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_runtime_in_an_odd_folder_is_found_before_the_search_path() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(ODD);
    let poisoned = folder.path().join("poisoned");
    for (folder, answer) in [(&odd, 0), (&poisoned, 1)] {
        fs::create_dir(folder).unwrap();
        let code = folder.join("answer.c");
        fs::write(&code, format!("int answer(void) {{ return {answer}; }}")).unwrap();
        let library = folder.join("libanswer.so");
        run_ok(
            Command::new("cc")
                .args([
                    "-shared",
                    "-fPIC",
                    "-Xlinker",
                    "-soname",
                    "-Xlinker",
                    "libanswer.so",
                    "-o",
                ])
                .args([&library, &code]),
        );
    }
    let code = folder.path().join("main.c");
    fs::write(
        &code,
        "int answer(void); int main(void) { return answer(); }",
    )
    .unwrap();
    let main = folder.path().join("main");
    run_ok(
        Command::new("cc")
            .arg("-o")
            .args([&main, &code, &odd.join("libanswer.so")])
            .args(link_runtime::link_args(&odd).unwrap()),
    );
    run_ok(Command::new(main).env("LD_LIBRARY_PATH", poisoned));
}

#[test]
fn a_runtime_in_a_folder_that_the_loader_cannot_name_is_refused() {
    for name in ["/a:b", "/$ORIGIN/lib", "/${LIB}"] {
        let error = link_runtime::link_args(Path::new(name)).unwrap_err();
        assert!(error.contains(name) && error.contains("move"), "{error}");
    }
    assert!(link_runtime::link_args(Path::new("/$x/100%")).is_ok());
}

/// Runs the program with `args` where its user may have no more than `limit` processes and threads: as a user with no
/// others, where root runs the test, and else only with a limit of 1. `None`, with the reason printed, where that cannot
/// be done.
fn limited(limit: usize, user: u32, args: &[&str]) -> Option<Output> {
    // SAFETY: geteuid has no conditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root && limit > 1 {
        println!("skipped: only root can become a user who has no other processes");
        return None;
    }
    let mut command = Command::new("prlimit");
    if is_root {
        command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups"]);
        // The program and the runtime may lie where only root may read.
        command.args([
            "--inh-caps=-all,+dac_override",
            "--ambient-caps=-all,+dac_override",
        ]);
        command.arg("prlimit");
    }
    let plain = program(args);
    command.arg(format!("--nproc={limit}"));
    program::take_over(&mut command, &plain);
    let output = command.output().map_err(|error| error.to_string());
    let refused = |output: &Output| {
        let errors = words(&output.stderr);
        errors.contains("setpriv:") || errors.contains("prlimit:")
    };
    match output {
        Ok(output) if !refused(&output) => return Some(output),
        Ok(output) => println!("skipped: {}", words(&output.stderr).trim()),
        Err(error) => println!("skipped: no setpriv or prlimit: {error}"),
    }
    None
}

/// Users that nobody is, one for each test: limits count all processes of a user.
const USERS: [u32; 3] = [3_141_592, 3_141_593, 3_141_594];

/// The number before `word` in `text`.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn too_few_threads_are_one_error_with_the_number_found_and_needed() {
    // The process itself, the thread that waits for signals, and three more.
    let Some(output) = limited(5, USERS[0], &["doctor", "--device", "cpu"]) else {
        return;
    };
    let error = errors(&output, 1);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(number_before(&error, " threads, and"), 3, "{error}");
    assert!(number_before(&error, " are needed") > 3, "{error}");
}

#[test]
fn where_no_thread_is_allowed_the_error_says_so() {
    let Some(output) = limited(1, USERS[1], &["summary"]) else {
        return;
    };
    let error = errors(&output, 1);
    assert_eq!(number_before(&error, " threads, and"), 0, "{error}");
}

#[test]
fn a_run_with_just_the_threads_that_are_needed_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let run = folder.path().join("run");
    let options = "--epochs 2 --steps-per-epoch 2 --eval-steps 1 --checkpoint-every 1 --replicas 2";
    let run = quick_run(&run, options);
    let Some(refused) = limited(5, USERS[2], &run) else {
        return;
    };
    let needed = number_before(&errors(&refused, 1), " are needed");
    let allowed = limited(needed + 2, USERS[2], &run).unwrap();
    errors(&allowed, 0);
}

#[test]
fn every_folder_may_have_an_odd_name() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(ODD);
    let (run, temporary) = (odd.join("run"), odd.join("tmp"));
    fs::create_dir_all(&temporary).unwrap();
    let train = quick_run(&run, "--max-steps 1 --eval-steps 1");
    let picture = odd.join("predictions.png");
    for args in [
        &train[..],
        &["eval", "--device", "cpu", "--checkpoint", text(&run)],
        &[
            "predict",
            "--device",
            "cpu",
            "--checkpoint",
            text(&run),
            "--out",
            text(&picture),
        ],
        &["report", "--device", "cpu", "--checkpoint", text(&run)],
        &["plot", text(&run), "--out-dir", text(&odd)],
    ] {
        run_ok(program(args).env("TMPDIR", &temporary));
    }
    assert!(picture.is_file());
}

#[test]
fn a_plugin_may_lie_in_an_odd_folder() {
    let Some(plugin) = cpu_plugin() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(ODD);
    fs::create_dir(&odd).unwrap();
    let path = odd.join("libpjrt_cpu.so");
    std::os::unix::fs::symlink(plugin, &path).unwrap();
    run_ok(&mut program(&["doctor", "--plugin", text(&path)]));
    run_ok(program(&["doctor"]).env("XLA_PJRT_PLUGIN", format!("cpu:{}", text(&path))));
}
