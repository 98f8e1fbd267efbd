//! What is compiled stays for the next start, which computes the same bits; whatever is wrong with the cache, the run goes
//! on.

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

/// Runs of three steps with a cache, on the runtime's own CPU or on the CPU plugin.
struct Runs {
    folder: tempfile::TempDir,
    plugin: Option<PathBuf>,
}

impl Runs {
    /// On the runtime's own CPU.
    fn embedded() -> Self {
        Self {
            plugin: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// On the CPU plugin; `None`, with the reason printed, where there is none.
    fn on_plugin() -> Option<Self> {
        Some(Self {
            plugin: Some(cpu_plugin()?),
            ..Self::embedded()
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
        if let Some(plugin) = &self.plugin {
            command.args(["--plugin", text(plugin)]);
        }
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
    // The start block has said so before.
    let announced = match compiled {
        0 => [
            "executable  loaded from the cache in ",
            "loading the training step",
        ],
        _ => [
            "executable  to be compiled: ",
            "compiling the training step",
        ],
    };
    assert!(announced.iter().all(|words| log.contains(words)), "{log}");
    compiled == 2
}

/// The seconds that loading took and that it saved, according to the start block.
fn announced_seconds(log: &str) -> (f64, f64) {
    let line = log.lines().find(|line| line.starts_with("executable"));
    let words: Vec<&str> = line.unwrap().split(' ').collect();
    let before = |unit: &str| {
        let at = words.windows(2).position(|pair| pair[1] == unit).unwrap();
        words[at].parse().unwrap()
    };
    (before("s,"), before("s"))
}

#[test]
fn the_second_start_loads_what_the_first_compiled_and_computes_the_same_bits() {
    for runs in [Some(Runs::embedded()), Runs::on_plugin()] {
        let Some(runs) = runs else { continue };
        assert!(compiled(&runs.run("first")));
        assert_eq!(runs.files().len(), 2);
        let log = runs.run("second");
        assert!(!compiled(&log));
        let (loaded, saved) = announced_seconds(&log);
        let step = &runs.result("second")["executables"][0];
        let seconds = |name: &str| step[name].as_f64().unwrap();
        // The result has the little that is done after it was announced, too.
        assert!(loaded <= seconds("load_s") + 0.06, "{log}{step}");
        let together = loaded + saved - seconds("compile_s");
        assert!(saved == 0.0 || together.abs() < 0.11, "{log}{step}");
        // Nothing of XLA's own log.
        assert!(!log.contains("cpu_aot_loader"), "{log}");
        assert_same_end(&runs.out_dir("second"), &runs.out_dir("first"));
        assert_eq!(runs.files().len(), 2);
        check_results(&runs.result("first"), &runs.result("second"));

        // Other flags, other devices: other programs.
        let mut command = runs.command("flags");
        command.env("XLA_FLAGS", "--xla_backend_optimization_level=1");
        assert!(compiled(&logged(&mut command)));
        let mut command = runs.command("replicas");
        assert!(compiled(&logged(command.args(["--replicas", "2"]))));
        assert_eq!(runs.files().len(), 6);
        assert!(!compiled(&runs.run("third")));
    }
}

/// Checks what the results say about where the computations came from: compiled at the first start, loaded at the
/// second.
fn check_results(first: &Value, second: &Value) {
    assert!(first.get("compiled_earlier_s").is_none());
    let earlier = second["compiled_earlier_s"].as_f64().unwrap();
    for (result, from) in [(first, "compiler"), (second, "cache")] {
        let executables = result["executables"].as_array().unwrap();
        let names: Vec<_> = executables.iter().map(|e| &e["computation"]).collect();
        assert_eq!(names, ["train_step", "eval_step"]);
        assert!(executables.iter().all(|e| e["from"] == from), "{result}");
        let seconds = |name: &str| executables[0].get(name).and_then(Value::as_f64);
        match from {
            "compiler" => assert_eq!((seconds("load_s"), seconds("saved_s")), (None, None)),
            _ => {
                let saved = seconds("compile_s").unwrap() - seconds("load_s").unwrap();
                assert_eq!(seconds("saved_s"), Some(saved));
                assert_eq!(seconds("compile_s"), Some(earlier));
            }
        }
    }
    // It is the time that compiling took then.
    let compile_s = |result: &Value| result["executables"][0]["compile_s"].clone();
    assert_eq!(compile_s(first), compile_s(second));
}

#[test]
fn kernels_of_another_instruction_set_are_another_program() {
    let runs = Runs::embedded();
    let with = |name: &str, isa: &str| {
        let mut command = runs.command(name);
        compiled(&logged(command.env(cpu_kernels::isa::VARIABLE, isa)))
    };
    assert!(with("first", "generic"));
    assert!(!with("again", "generic"));
    if cpu_kernels::Isa::of_processor() == cpu_kernels::Isa::Generic {
        println!("skipped: this processor has no kernels");
        return;
    }
    assert!(with("kernels", "avx2"));
    assert!(!with("kernels-again", "avx2"));
    assert_same_end(&runs.out_dir("kernels-again"), &runs.out_dir("kernels"));
}

#[test]
fn a_file_that_is_damaged_or_does_not_load_is_a_warning_and_a_compile() {
    for runs in [Some(Runs::embedded()), Runs::on_plugin()] {
        let Some(runs) = runs else { continue };
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

        // Whole, but nothing that XLA knows.
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
}

#[test]
fn processes_that_start_at_once_share_a_cache() {
    let runs = Runs::embedded();
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
fn the_cache_is_in_the_user_s_own_unless_it_is_named() {
    let runs = Runs::embedded();
    let all = runs.folder.path().join("all");
    let run = |name: &str| {
        let out_dir = runs.out_dir(name);
        let mut command = program(&quick_run(&out_dir, "--max-steps 1 --eval-steps 1"));
        command.env_remove("RESNET_XLA_COMPILE_CACHE");
        compiled(&logged(command.env("RESNET_XLA_CACHE", &all)))
    };
    assert!(run("first"));
    assert_eq!(fs::read_dir(all.join("compiled")).unwrap().count(), 2);
    assert!(!run("second"));
}

#[test]
fn a_cache_that_is_not_wanted_or_not_safe_is_not_used() {
    let runs = Runs::embedded();
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
