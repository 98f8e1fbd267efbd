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
const TOOLS: &str = "basename bash cat cp cut df dirname du env find flock getconf grep head ln mkdir mktemp mv \
    readlink rm sha256sum sleep sort touch uname xargs sed";

/// The pinned sum of libclang's wheel.
const LIBCLANG_SUM: &str = "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b";

/// A checkout with nothing but `setup` and what it reads.
struct Checkout {
    folder: TempDir,
}

impl Checkout {
    fn new() -> Self {
        Self::in_folder_named("checkout")
    }

    /// A checkout in a folder whose name begins with `name`.
    fn in_folder_named(name: &str) -> Self {
        let checkout = Self {
            folder: TempDir::with_prefix(name).unwrap(),
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir(checkout.path("scripts")).unwrap();
        for file in ["setup", "scripts/pip_settings.py"] {
            fs::copy(source.join(file), checkout.path(file)).unwrap();
        }
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
        let file = self.path("unpacked").join(member);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        self.pin_unpacked(pins_file, old_sum)
    }

    /// Packs what lies in `unpacked` into a wheel, `registry.whl`, and pins it like [`Self::pin_wheel`].
    fn pin_unpacked(&self, pins_file: &str, old_sum: &str) -> PathBuf {
        let unpacked = self.path("unpacked");
        let wheel = self.path("registry.whl");
        let tops = fs::read_dir(&unpacked).unwrap();
        run_ok(
            Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .arg(&wheel)
                .args(tops.map(|entry| entry.unwrap().file_name()))
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
            LIBCLANG_SUM,
        )
    }

    /// Pins a libclang that pip itself takes for one, the only file in the folder `mirror`.
    fn mirror_libclang(&self) {
        let described = self.path("unpacked/libclang-18.1.1.dist-info");
        fs::create_dir_all(&described).unwrap();
        for (file, text) in [
            (
                "METADATA",
                "Metadata-Version: 2.1\nName: libclang\nVersion: 18.1.1\n",
            ),
            (
                "WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py2-none-manylinux2010_x86_64\n",
            ),
            ("RECORD", ""),
        ] {
            fs::write(described.join(file), text).unwrap();
        }
        let wheel = self.pin_libclang();
        fs::create_dir(self.path("mirror")).unwrap();
        let name = "mirror/libclang-18.1.1-py2.py3-none-manylinux2010_x86_64.whl";
        fs::rename(wheel, self.path(name)).unwrap();
    }

    /// Makes `pip download` bring what [`Self::pin_wheel`] packed.
    fn serve_pinned_wheel(&self) {
        self.replace_pip_download("cp \"${0%/*}/../registry.whl\" \"$dest\"/");
    }

    /// Makes `python3 -m MODULE` run `script`.
    fn replace_python_module(&self, module: &str, script: &str) {
        let python = find_in_path("python3");
        let python = python.display();
        self.replace_tool(
            "python3",
            &format!("case \"$*\" in *'-m {module} '*) {script} ;; esac\nexec '{python}' \"$@\""),
        );
    }

    /// Makes `pip download` run `script`, in which $dest is the folder to download into; notes each call in `calls`.
    fn replace_pip_download(&self, script: &str) {
        let python = find_in_path("python3");
        self.replace_tool(
            "python3",
            &format!(
                r#"case "$*" in
*"pip download"*)
    echo called >>"${{0%/*}}/../calls"
    while [ "$1" != --dest ]; do shift; done
    dest=$2
    {script} ;;
*) exec "{python}" "$@" ;;
esac"#,
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
    checkout.replace_python_module("pip", "echo 'python3: No module named pip' >&2; exit 1");
    assert_fails_with(&checkout.setup().output().unwrap(), "python3 has no pip");
}

#[test]
fn a_broken_python_is_reported_with_what_it_printed() {
    let checkout = Checkout::new();
    checkout.replace_tool("python3", "echo 'libpython3.so: cannot open' >&2; exit 127");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work: it ended with 127 and printed: libpython3.so: cannot open",
    );
    checkout.replace_tool("python3", "exit 0");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work: it ended with 0 and printed: ",
    );
}

#[test]
fn a_broken_pip_is_reported_with_what_it_printed() {
    let checkout = Checkout::new();
    let script = "printf 'Traceback:\\nImportError: no ssl in here\\n' >&2; exit 1";
    checkout.replace_python_module("pip", script);
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work; it printed: ImportError: no ssl in here",
    );
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
    checkout.replace_tool(
        "df",
        "echo header; echo //server/my 7 disk 1000 990 10 99% /a 5% b",
    );
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
fn a_cache_that_the_loader_cannot_name_is_refused() {
    let checkout = Checkout::new();
    for name in ["a:b", "$ORIGIN", "${LIB}"] {
        let cache = checkout.path(name);
        let output = checkout.setup().env("RESNET_XLA_CACHE", &cache).output();
        assert_fails_with(&output.unwrap(), "set RESNET_XLA_CACHE to another folder");
        assert!(!cache.exists());
    }
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
    checkout.serve_pinned_wheel();
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
    checkout.pin_libclang();
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

    checkout.serve_pinned_wheel();
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
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
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
    checkout.pin_wheel(
        "fastatomstruct_xla_cpu/libpjrt_cpu.so",
        "a plugin for a test",
        "setup",
        "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
    );
    checkout.serve_pinned_wheel();
    let mut setup = checkout.setup_libclang_only();
    run_ok(setup.env("LIBCLANG_PATH", "/somewhere").arg("cpu-plugin"));
    let plugin = checkout.path("cache/plugins/cpu/libpjrt_cpu.so");
    assert_eq!(fs::read_to_string(plugin).unwrap(), "a plugin for a test");
    assert_eq!(
        fs::read_dir(checkout.path("cache/wheels")).unwrap().count(),
        0
    );
}

/// A script of Python that ends whatever imports it.
const POISON: &str = "raise SystemExit('poisoned')";

#[test]
fn settings_of_pip_that_would_choose_what_is_downloaded_do_not_count_and_those_that_reach_it_do() {
    for in_file in [false, true] {
        let checkout = Checkout::new();
        checkout.mirror_libclang();
        fs::write(checkout.path("constraint.txt"), "libclang==16.0.6\n").unwrap();
        let elsewhere = checkout.path("elsewhere").display().to_string();
        let constraint = checkout.path("constraint.txt").display().to_string();
        let settings = [
            // There is no other place to download from.
            ("no-index", "true"),
            ("find-links", "mirror"),
            ("constraint", &constraint),
            ("require-hashes", "true"),
            ("no-binary", ":all:"),
            ("platform", "win32"),
            ("abi", "cp27"),
            ("dest", &elsewhere),
            ("log", "/no/such/folder/log"),
            ("require-virtualenv", "true"),
            ("user", "true"),
            ("no-input", "true"),
            ("quiet", "3"),
        ];
        let mut setup = checkout.setup_libclang_only();
        setup.current_dir(checkout.folder.path());
        if in_file {
            let lines = settings.map(|(name, value)| format!("{name} = {value}\n"));
            let text = format!("[global]\n{}", lines.concat());
            fs::write(checkout.path("pip.conf"), text).unwrap();
            setup.env("PIP_CONFIG_FILE", "pip.conf");
        } else {
            for (name, value) in settings {
                let name = format!("PIP_{}", name.to_uppercase().replace('-', "_"));
                setup.env(name, value);
            }
        }
        run_ok(&mut setup);
        assert_eq!(checkout.linked_libclang(), "libclang for a test");
        assert!(!checkout.path("elsewhere").exists());
    }
}

#[test]
fn a_download_that_fails_names_the_settings_that_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    fs::create_dir(checkout.path("empty")).unwrap();
    let output = checkout
        .setup_libclang_only()
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", checkout.path("empty"))
        .env("PIP_PREFER_BINARY", "1")
        .env("no_proxy", "example.org")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    // The machine's own settings may come after these.
    let named = "of your settings, these count: no_proxy PIP_FIND_LINKS PIP_NO_INDEX";
    assert!(message.contains(named), "{message}");
    assert!(!message.contains("PIP_PREFER_BINARY"), "{message}");
}

#[test]
fn a_file_of_settings_that_pip_cannot_read_is_named_and_does_not_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    let file = checkout.path("pip.conf");
    fs::write(&file, "no section\n").unwrap();
    let output = run_ok(
        checkout
            .setup_libclang_only()
            .env("PIP_CONFIG_FILE", &file)
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", checkout.path("mirror")),
    );
    let file = file.display().to_string();
    assert!(output.contains(&file), "{output}");
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn variables_of_python_and_modules_in_the_current_folder_do_not_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    let poisoned = checkout.path("poisoned");
    fs::create_dir(&poisoned).unwrap();
    for module in ["zipfile", "pathlib", "random", "pip", "sitecustomize"] {
        fs::write(poisoned.join(format!("{module}.py")), POISON).unwrap();
    }
    let mut setup = checkout.setup_libclang_only();
    setup.current_dir(&poisoned).env("PYTHONPATH", &poisoned);
    for (name, value) in [
        ("PYTHONHOME", "/nowhere"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONINSPECT", "1"),
        ("PYTHONVERBOSE", "1"),
    ] {
        setup.env(name, value);
    }
    setup.env("PIP_NO_INDEX", "1");
    run_ok(setup.env("PIP_FIND_LINKS", checkout.path("mirror")));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn a_pip_that_only_pythonpath_leads_to_is_found() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    // A Python whose pip is there as long as PYTHONPATH is.
    let python = fs::read_to_string(checkout.path("bin/python3")).unwrap();
    let without =
        "case \"$PYTHONPATH $*\" in \" -m pip\"*) echo 'No module named pip'; exit 1 ;; esac";
    checkout.replace_tool("python3", &format!("{without}\n{python}"));
    let mut setup = checkout.setup_libclang_only();
    run_ok(setup.env("PYTHONPATH", "/the/modules/of/a/cluster"));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn settings_of_the_shell_and_its_tools_do_not_count() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    let start_up = checkout.path("start_up.sh");
    fs::write(
        &start_up,
        "set -f; shopt -s nullglob; alias cd=false; mkdir() { false; }",
    )
    .unwrap();
    let mut setup = checkout.setup_libclang_only();
    for (name, value) in [
        ("SHELLOPTS", "noclobber:noglob:physical"),
        ("BASHOPTS", "failglob:nocasematch:xpg_echo"),
        ("BASH_FUNC_readlink%%", "() { false; }"),
        ("POSIXLY_CORRECT", "1"),
        ("IFS", "a/"),
        ("GREP_OPTIONS", "--invert-match"),
        ("GREP_COLORS", "nonsense"),
        ("BLOCK_SIZE", "1"),
        ("LC_ALL", "xx_XX.nonsense"),
        ("TMPDIR", "/no/such/folder"),
        ("XDG_CACHE_HOME", "relative"),
        ("CDPATH", "/"),
    ] {
        setup.env(name, value);
    }
    run_ok(setup.env("BASH_ENV", &start_up).env("ENV", &start_up));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn any_way_of_calling_it_works() {
    for call in [
        // From the folder above, which `cd` would find by CDPATH and print.
        "cd ..; CDPATH=$PWD exec \"${OLDPWD##*/}/setup\"",
        "exec bash setup",
        "exec sh setup",
        "umask 777; exec ./setup",
        "ln -s \"$PWD/setup\" bin/setup; cd /; exec setup",
        "mkdir links; ln -s ../setup links/first; ln -s first links/second; cd bin; exec ../links/second",
    ] {
        let checkout = Checkout::new();
        checkout.pin_libclang();
        checkout.serve_pinned_wheel();
        symlink(find_in_path("sh"), checkout.path("bin/sh")).unwrap();
        let setup = checkout.setup_libclang_only();
        let mut shell = Command::new("bash");
        shell.args(["-c", call]).current_dir(checkout.folder.path());
        shell.env_clear();
        for (name, value) in setup.get_envs() {
            shell.env(name, value.unwrap());
        }
        run_ok(&mut shell);
        assert_eq!(checkout.linked_libclang(), "libclang for a test", "{call}");
    }
}

#[test]
fn a_home_folder_with_any_name_holds_the_cache_whatever_a_relative_xdg_cache_home_says() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    let home = checkout.path("it's \"home\", #1 [é] $x");
    let mut setup = checkout.setup_libclang_only();
    setup.env_remove("RESNET_XLA_CACHE").env("HOME", &home);
    run_ok(setup.env("XDG_CACHE_HOME", "relative"));
    let folder = fs::read_link(checkout.path(".xla")).unwrap();
    assert!(
        folder.starts_with(home.join(".cache/resnet-xla")),
        "{folder:?}"
    );
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn a_cache_without_locks_is_warned_of() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/poor_file_system.c");
    let shim = checkout.path("shim.so");
    run_ok(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&shim, &source]),
    );
    // ENOLCK, ENOSYS and EOPNOTSUPP.
    for number in ["37", "38", "95"] {
        checkout.serve_pinned_wheel();
        let _ = fs::remove_dir_all(checkout.path("cache"));
        let mut setup = checkout.setup_libclang_only();
        setup.env("LD_PRELOAD", &shim).env("FLOCK_ERROR", number);
        let output = run_ok(&mut setup);
        assert!(output.contains("has no locks"), "{output}");
        assert_eq!(checkout.linked_libclang(), "libclang for a test");
    }
}

#[test]
fn a_setup_that_was_quicker_where_there_are_no_locks_is_no_error() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.remove_tool("flock");
    // While this one downloads, another one begins and finishes.
    checkout.replace_pip_download(
        "if mkdir \"${0%/*}/other\"; then \"${0%/*}/../setup\" >&2; fi\n\
         cp \"${0%/*}/../registry.whl\" \"$dest\"/",
    );
    run_ok(&mut checkout.setup_libclang_only());
    assert_eq!(checkout.downloads(), 2);
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn a_runtime_is_assembled_in_a_checkout_and_a_cache_with_any_name() {
    let checkout = Checkout::in_folder_named("it's a \"checkout\", #1 [é] $x ");
    // A wheel with a file in each place that the recipe takes one from, and libraries for its own to link to.
    let wheel_root = checkout.path("unpacked/tensorflow");
    for header in [
        "Eigen/x.h",
        "absl/x.h",
        "external/farmhash_archive/src/x.h",
        "external/highwayhash/highwayhash/x.h",
        "google/x.h",
        "ml_dtypes/x.h",
        "tsl/x.h",
        "unsupported/x.h",
        "xla/header.h",
    ] {
        let path = wheel_root.join("include").join(header);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#define RIGHT_HEADER\n").unwrap();
    }
    for library in ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"] {
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-x", "c", "/dev/null", "-o"]);
        run_ok(compiler.arg(wheel_root.join(library)));
    }
    for source in ["quiet.cc", "shim.cc"] {
        let text =
            "#include \"xla/header.h\"\n#ifndef RIGHT_HEADER\n#error another header\n#endif\n";
        fs::write(checkout.path("xla_runtime").join(source), text).unwrap();
    }
    let pins = fs::read_to_string(checkout.path("xla_runtime/wheels.txt")).unwrap();
    let pinned = pins
        .lines()
        .find(|line| line.starts_with("tensorflow-cpu "));
    let old_sum = pinned.unwrap().split(' ').nth(3).unwrap();
    let wheel = checkout.pin_unpacked("xla_runtime/wheels.txt", old_sum);
    fs::rename(wheel, checkout.path("tensorflow.whl")).unwrap();
    fs::remove_dir_all(checkout.path("unpacked")).unwrap();
    checkout.pin_libclang();
    checkout.replace_pip_download(
        "case \"$*\" in *manylinux2010*) file=registry ;; *) file=tensorflow ;; esac\n\
         cp \"${0%/*}/../$file.whl\" \"$dest\"/",
    );
    // Another copy of the runtime's headers, as CPATH of a machine with TensorFlow in it may name.
    let other = checkout.path("other");
    fs::create_dir_all(other.join("xla")).unwrap();
    fs::write(other.join("xla/header.h"), "").unwrap();

    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", checkout.path("bin").display());
    run_ok(checkout.setup().env("PATH", path).env("CPATH", other));
    let version = fs::read_to_string(checkout.path(".xla/VERSION")).unwrap();
    assert!(version.starts_with("tensorflow-cpu "), "{version}");
    assert!(checkout.path(".xla/lib/libxla_shim.so").exists());
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
