//! The `setup` script: what it says when something is missing, and that it heals what was interrupted.
//!
//! Each test runs a copy of the script in a folder of its own, with its own cache and a `PATH` that holds just the tools
//! named here. In place of the registry stands a tiny wheel and a `python3` that "downloads" it by copying.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// What `setup` and the pretended download call, besides `c++` and `python3`.
const TOOLS: &str = "awk basename bash cat cp cut df dirname du env find flock getconf grep head ln mkdir mktemp mv \
    readlink rm sha256sum sleep sort touch uname xargs sed";

/// A checkout with nothing but `setup` and what it reads.
struct Checkout {
    folder: TempDir,
}

impl Checkout {
    fn new() -> Self {
        let checkout = Self {
            folder: TempDir::new().unwrap(),
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(source.join("setup"), checkout.path("setup")).unwrap();
        copy_folder(&source.join("xla_runtime"), &checkout.path("xla_runtime"));
        fs::create_dir(checkout.path("bin")).unwrap();
        for tool in TOOLS.split_whitespace().chain(["c++", "python3"]) {
            symlink(find_in_path(tool), checkout.path("bin").join(tool)).unwrap();
        }
        checkout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn remove_tool(&self, name: &str) {
        fs::remove_file(self.path("bin").join(name)).unwrap();
    }

    fn replace_tool(&self, name: &str, script: &str) {
        self.remove_tool(name);
        let tool = self.path("bin").join(name);
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `setup` with only the tools of this checkout and with none of this process's variables.
    fn setup(&self) -> Command {
        let mut command = Command::new(self.path("setup"));
        command
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("RESNET_XLA_CACHE", self.path("cache"));
        command
    }

    /// `setup` for a user with an xla_extension folder of their own: it needs libclang, a small wheel, and no more.
    fn setup_libclang_only(&self) -> Command {
        let extension = self.path("extension");
        fs::create_dir_all(extension.join("include")).unwrap();
        fs::create_dir_all(extension.join("lib")).unwrap();
        fs::write(extension.join("lib/libxla_extension.so"), "").unwrap();
        let mut command = self.setup();
        command.env("XLA_EXTENSION_DIR", extension);
        command
    }

    /// Packs `content` into a wheel as `member` and pins it in `pins_file` in place of the wheel with the sum `old_sum`.
    fn pin_wheel(&self, member: &str, content: &str, pins_file: &str, old_sum: &str) -> PathBuf {
        let unpacked = self.path("unpacked");
        let file = unpacked.join(member);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let wheel = self.path("registry.whl");
        let top_folder = member.split('/').next().unwrap();
        run_ok(
            Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .arg(&wheel)
                .arg(top_folder)
                .current_dir(&unpacked),
        );
        let sum = run_ok(Command::new("sha256sum").arg(&wheel));
        let pins = fs::read_to_string(self.path(pins_file)).unwrap();
        assert!(pins.contains(old_sum), "{pins_file} does not pin {old_sum}");
        fs::write(self.path(pins_file), pins.replace(old_sum, &sum[..64])).unwrap();
        wheel
    }

    fn pin_libclang(&self) -> PathBuf {
        self.pin_wheel(
            "libclang-18.1.1.data/platlib/clang/native/libclang.so",
            "libclang for a test",
            "xla_runtime/wheels.txt",
            "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
        )
    }

    /// Makes `pip download` run `script`, in which $dest is the folder to download into; notes each call in `calls`.
    fn replace_pip_download(&self, script: &str) {
        let python = find_in_path("python3");
        let calls = self.path("calls");
        self.replace_tool(
            "python3",
            &format!(
                r#"case "$*" in
*"pip download"*)
    echo called >>"{calls}"
    dest=$(echo "$*" | sed 's/.*--dest \([^ ]*\).*/\1/')
    {script} ;;
*) exec "{python}" "$@" ;;
esac"#,
                calls = calls.display(),
                python = python.display(),
            ),
        );
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    fn work_folders_left(&self) -> usize {
        let entries = fs::read_dir(self.path("cache")).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("partial.")
            })
            .count()
    }

    fn linked_libclang(&self) -> String {
        fs::read_to_string(self.path(".xla/libclang/lib/libclang.so")).unwrap()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn find_in_path(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("these tests need {tool} in PATH"))
}

fn run_ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks for exit code 1 and a single line on stderr that holds `message`.
fn assert_fails_with(output: &Output, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr.contains(message),
        "expected '{message}' in: {stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn help_prints_the_usage() {
    let output = run_ok(Checkout::new().setup().arg("--help"));
    assert!(output.starts_with("Usage: ./setup"), "{output}");
}

#[test]
fn an_unknown_argument_is_a_usage_error() {
    let output = Checkout::new().setup().arg("tpuu").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "setup: unknown argument 'tpuu'; see ./setup --help\n"
    );
}

#[test]
fn a_missing_compiler_is_named() {
    let checkout = Checkout::new();
    checkout.remove_tool("c++");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "no C++ compiler 'c++'; install g++",
    );
}

#[test]
fn a_compiler_without_cpp17_is_refused() {
    let checkout = Checkout::new();
    checkout.replace_tool("c++", "exit 1");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "'c++' does not compile C++17",
    );
}

#[test]
fn a_missing_python_is_named() {
    let checkout = Checkout::new();
    checkout.remove_tool("python3");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "no python3; install Python 3 with pip",
    );
}

#[test]
fn a_missing_pip_is_named() {
    let checkout = Checkout::new();
    checkout.replace_tool("python3", "exit 1");
    assert_fails_with(&checkout.setup().output().unwrap(), "python3 has no pip");
}

#[test]
fn another_kind_of_machine_is_refused() {
    let checkout = Checkout::new();
    checkout.replace_tool("uname", "echo Linux aarch64");
    assert_fails_with(&checkout.setup().output().unwrap(), "this is Linux aarch64");
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_fetched() {
    let checkout = Checkout::new();
    checkout.replace_tool("df", "echo header; echo disk 1000 990 10 99% /");
    assert_fails_with(&checkout.setup().output().unwrap(), "1400 MB are needed");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let checkout = Checkout::new();
    fs::write(checkout.path("cache"), "a file where the folder should be").unwrap();
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "cannot write to the cache",
    );
}

#[test]
fn a_wrong_xla_extension_dir_is_refused() {
    let checkout = Checkout::new();
    fs::create_dir(checkout.path("empty")).unwrap();
    let output = checkout
        .setup()
        .env("XLA_EXTENSION_DIR", checkout.path("empty"))
        .output()
        .unwrap();
    assert_fails_with(
        &output,
        "is not the absolute path of a folder with include/ and lib/libxla_extension.so",
    );
}

#[test]
fn an_own_runtime_with_an_own_libclang_is_left_alone() {
    let checkout = Checkout::new();
    let output = run_ok(
        checkout
            .setup_libclang_only()
            .env("LIBCLANG_PATH", "/somewhere"),
    );
    assert!(
        output.contains("ready: XLA runtime of your XLA_EXTENSION_DIR"),
        "{output}"
    );
    assert!(!checkout.path("cache").exists() && !checkout.path(".xla").exists());
}

#[test]
fn a_damaged_wheel_is_fetched_again_and_leftovers_of_killed_runs_go() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    checkout.replace_pip_download(&format!("cp {} \"$dest\"/", wheel.display()));
    fs::create_dir_all(checkout.path("cache/wheels")).unwrap();
    fs::create_dir_all(checkout.path("cache/partial.killed/folder")).unwrap();
    let packed = fs::read(&wheel).unwrap();
    fs::write(
        checkout.path("cache/wheels/libclang-18.1.1.whl"),
        &packed[..packed.len() / 2],
    )
    .unwrap();

    let output = run_ok(&mut checkout.setup_libclang_only());
    assert!(output.contains("is damaged"), "{output}");
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
    assert_eq!(checkout.work_folders_left(), 0);
    assert_eq!(
        fs::read(checkout.path("cache/wheels/libclang-18.1.1.whl")).unwrap(),
        packed
    );
}

#[test]
fn a_download_with_the_wrong_checksum_is_refused_and_leaves_nothing() {
    let checkout = Checkout::new();
    checkout.replace_pip_download("echo garbage >\"$dest\"/libclang.whl");
    assert_fails_with(
        &checkout.setup_libclang_only().output().unwrap(),
        "wrong checksum: expected c533091d",
    );
    assert_eq!(checkout.work_folders_left(), 0);
    assert_eq!(
        fs::read_dir(checkout.path("cache/wheels")).unwrap().count(),
        0
    );
    assert!(!checkout.path(".xla").exists());
}

#[test]
fn an_interrupted_run_cleans_up_and_the_next_one_succeeds() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    let survived = checkout.path("survived");
    // Nothing waits so long but a download that was not ended.
    checkout.replace_pip_download(&format!("sleep 300; touch {}", survived.display()));
    let mut setup = checkout
        .setup_libclang_only()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while checkout.downloads() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    run_ok(Command::new("bash").args(["-c", &format!("kill -TERM {}", setup.id())]));
    // The download holds the pipe open as long as it lives, so this waits for its end too.
    let mut stdout = String::new();
    setup
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert_eq!(setup.wait().unwrap().code(), Some(143));
    assert_eq!(stdout, "setup: downloading libclang 18.1.1 (25 MB)\n");
    assert!(
        !survived.exists(),
        "the download went on after the interrupt"
    );
    assert_eq!(checkout.work_folders_left(), 0);

    checkout.replace_pip_download(&format!("cp {} \"$dest\"/", wheel.display()));
    run_ok(&mut checkout.setup_libclang_only());
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn two_runs_at_once_download_once_and_a_later_one_needs_no_python() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    let go = checkout.path("go");
    checkout.replace_pip_download(&format!(
        "while [ ! -e {} ]; do sleep 0.02; done; cp {} \"$dest\"/",
        go.display(),
        wheel.display()
    ));
    let mut first = checkout.setup_libclang_only().spawn().unwrap();
    while checkout.downloads() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut second = checkout.setup_libclang_only();
    let mut second = second.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting for another setup")));
    fs::write(go, "").unwrap();
    // Read to its end, so that it is not cut off in the middle of a line.
    lines.for_each(drop);
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(checkout.downloads(), 1);
    assert_eq!(checkout.linked_libclang(), "libclang for a test");

    checkout.remove_tool("python3");
    run_ok(&mut checkout.setup_libclang_only());
}

#[test]
fn a_changed_recipe_makes_a_new_folder_and_keeps_the_old_one() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    checkout.replace_pip_download(&format!("cp {} \"$dest\"/", wheel.display()));
    run_ok(&mut checkout.setup_libclang_only());
    let old_folder = fs::read_link(checkout.path(".xla")).unwrap();

    fs::write(checkout.path("xla_runtime/shim.cc"), "// changed").unwrap();
    fs::remove_file(checkout.path(".xla")).unwrap();
    run_ok(&mut checkout.setup_libclang_only());
    assert_ne!(fs::read_link(checkout.path(".xla")).unwrap(), old_folder);
    assert!(old_folder.exists());
    assert_eq!(checkout.downloads(), 1);
}

#[test]
fn a_plugin_is_put_where_the_program_looks_for_it() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_wheel(
        "fastatomstruct_xla_cpu/libpjrt_cpu.so",
        "a plugin for a test",
        "setup",
        "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
    );
    checkout.replace_pip_download(&format!("cp {} \"$dest\"/", wheel.display()));
    let mut setup = checkout.setup_libclang_only();
    run_ok(setup.env("LIBCLANG_PATH", "/somewhere").arg("cpu-plugin"));
    let plugin = checkout.path("cache/plugins/cpu/libpjrt_cpu.so");
    assert_eq!(fs::read_to_string(plugin).unwrap(), "a plugin for a test");
    assert_eq!(
        fs::read_dir(checkout.path("cache/wheels")).unwrap().count(),
        0
    );
}
