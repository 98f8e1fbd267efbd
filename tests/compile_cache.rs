//! What a plugin compiles stays for the next start, which computes the same bits; whatever is wrong with the cache, the
//! run goes on.

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use program::plugins::cpu_plugin;
use program::runs::{assert_same_end, quick_run};
use program::{program, text};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Runs of three steps on the CPU plugin, with a cache.
struct Runs {
    folder: tempfile::TempDir,
    plugin: PathBuf,
}

impl Runs {
    /// `None`, with the reason printed, where there is no plugin.
    fn new() -> Option<Self> {
        Some(Self {
            plugin: cpu_plugin()?,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn out_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let out_dir = self.out_dir(name);
        let mut command = program(&quick_run(&out_dir, "--max-steps 3 --eval-steps 1"));
        command.args(["--plugin", text(&self.plugin)]);
        command.args(["--compile-cache", text(&self.cache())]);
        command
    }

    /// What the run `name` logs.
    fn run(&self, name: &str) -> String {
        logged(&mut self.command(name))
    }

    fn result(&self, name: &str) -> Value {
        let result = fs::read_to_string(self.out_dir(name).join("result.json")).unwrap();
        serde_json::from_str(&result).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn logged(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    errors
}

/// Whether the steps were compiled, or else loaded.
fn compiled(log: &str) -> bool {
    let (compiled, loaded) = (
        log.matches("compiled train_step: ").count() + log.matches("compiled eval_step: ").count(),
        log.matches("loaded train_step: ").count() + log.matches("loaded eval_step: ").count(),
    );
    assert!(matches!((compiled, loaded), (2, 0) | (0, 2)), "{log}");
    compiled == 2
}

#[test]
fn the_second_start_loads_what_the_first_compiled_and_computes_the_same_bits() {
    let Some(runs) = Runs::new() else { return };
    assert!(compiled(&runs.run("first")));
    assert_eq!(runs.files().len(), 2);
    let log = runs.run("second");
    assert!(!compiled(&log));
    // Nothing of the plugin's own log.
    assert!(!log.contains("cpu_aot_loader"), "{log}");
    assert_same_end(&runs.out_dir("second"), &runs.out_dir("first"));
    let earlier = |name: &str| runs.result(name)["compiled_earlier_s"].as_f64();
    assert_eq!(earlier("first"), None);
    assert!(earlier("second").unwrap() > 0.0);
    assert_eq!(runs.files().len(), 2);

    // Other flags, other devices: other programs.
    let mut command = runs.command("flags");
    command.env("XLA_FLAGS", "--xla_backend_optimization_level=1");
    assert!(compiled(&logged(&mut command)));
    let mut command = runs.command("replicas");
    assert!(compiled(&logged(command.args(["--replicas", "2"]))));
    assert_eq!(runs.files().len(), 6);
    assert!(!compiled(&runs.run("third")));
}

#[test]
fn a_file_that_is_damaged_or_does_not_load_is_a_warning_and_a_compile() {
    let Some(runs) = Runs::new() else { return };
    runs.run("first");
    for file in runs.files() {
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let log = runs.run("damaged");
    assert!(compiled(&log) && log.contains("is damaged"), "{log}");
    assert_same_end(&runs.out_dir("damaged"), &runs.out_dir("first"));

    // Whole, but nothing that the plugin knows.
    let digest = Sha256::digest(b"nonsense");
    let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for file in runs.files() {
        let content = format!("{{\"sha256\": \"{sum}\", \"compile_s\": 1.0}}\nnonsense");
        fs::write(file, content).unwrap();
    }
    let log = runs.run("nonsense");
    assert!(compiled(&log) && log.contains("cannot be loaded"), "{log}");
    assert!(!compiled(&runs.run("last")));
}

#[test]
fn processes_that_start_at_once_share_a_cache() {
    let Some(runs) = Runs::new() else { return };
    let children: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut command = runs.command(name);
            command.stderr(Stdio::null()).stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .into_iter()
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(runs.files().len(), 2);
    assert!(!compiled(&runs.run("c")));
    assert_same_end(&runs.out_dir("b"), &runs.out_dir("a"));
    assert_same_end(&runs.out_dir("c"), &runs.out_dir("a"));
}

#[test]
fn a_device_whose_programs_cannot_be_kept_gets_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let run = |name: &str, named: Option<&Path>| {
        let out_dir = folder.path().join(name);
        let mut command = program(&quick_run(&out_dir, "--max-steps 1 --eval-steps 1"));
        command.env_remove("RESNET_XLA_COMPILE_CACHE");
        command.env("RESNET_XLA_CACHE", folder.path().join("all"));
        if let Some(named) = named {
            command.args(["--compile-cache", text(named)]);
        }
        logged(&mut command)
    };
    let log = run("named", Some(&cache));
    let said = "--compile-cache has no effect on this device";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    let log = run("default", None);
    assert!(!log.contains("compile-cache"), "{log}");
    assert!(!cache.exists() && !folder.path().join("all").exists());
}

#[test]
fn a_cache_that_is_not_wanted_or_not_safe_is_not_used() {
    let Some(runs) = Runs::new() else { return };
    let mut command = runs.command("none");
    logged(command.args(["--compile-cache", "none"]));
    assert!(!runs.cache().exists());
    assert!(!Path::new("none").exists());

    fs::create_dir(runs.cache()).unwrap();
    fs::set_permissions(runs.cache(), fs::Permissions::from_mode(0o777)).unwrap();
    let log = runs.run("open");
    assert!(log.contains("others may write to it (mode 777)"), "{log}");
    assert!(runs.files().is_empty());
}
