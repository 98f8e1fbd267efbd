//! `scripts/accelerator.sh` from end to end in its short form, with the CPU plugin in the place of a GPU: pieces are packed,
//! carried one after the other, measured and trained with; another machine goes on with what came back. Then with stand-ins
//! for the program and its peers, which compute nothing: every peer has its row, and a call that fails or is cut off loses
//! nothing.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::plugins::cpu_plugin;
use program::runs::assert_same_end;
use program::small::small;
use program::{COMPILE_FAST, succeed, text, xla_flags};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the script prints for `args`. It carries the program that needs no XLA runtime, where that is built.
fn script(args: &[&str]) -> String {
    let full = env!("CARGO_BIN_EXE_resnet-xla");
    let (program, piece_mib) = match small() {
        Some(small) => (small, "36"),
        None => (full.into(), "200"),
    };
    let output = Command::new(Path::new(ROOT).join("scripts/accelerator.sh"))
        .args(args)
        .env("RESNET_XLA_BIN", program)
        .env("RESNET_XLA_FULL_BIN", full)
        .env("RESNET_XLA_COMPILE_CACHE", "none")
        .env("XLA_FLAGS", xla_flags(COMPILE_FAST))
        .env("PIECE_MIB", piece_mib)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {printed}{errors}");
    printed
}

/// A machine that has nothing: its own folder, and what it gives back.
struct Machine<'a> {
    work: PathBuf,
    out: PathBuf,
    plugin: &'a Path,
}

impl<'a> Machine<'a> {
    fn new(folder: &Path, name: &str, plugin: &'a Path) -> Self {
        Self {
            work: folder.join(name),
            out: folder.join(format!("{name}-out")),
            plugin,
        }
    }

    fn run(&self, pieces: &[&Path]) -> String {
        let (work, out) = (text(&self.work), text(&self.out));
        let mut args = vec![
            "run",
            "--work",
            work,
            "--out",
            out,
            "--plugin",
            text(self.plugin),
        ];
        args.extend(["--seconds", "900"]);
        args.extend(pieces.iter().map(|piece| text(piece)));
        script(&args)
    }

    /// The results of one kind so far.
    fn results(&self, kind: &str) -> Vec<Value> {
        let lines = fs::read_to_string(self.work.join("state/results.jsonl")).unwrap();
        of_kind(&lines, kind)
    }
}

#[test]
fn the_short_form_measures_trains_and_goes_on_elsewhere() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    script(&["pack", text(&packed), "--short"]);
    let pieces: Vec<PathBuf> = (0..3)
        .map(|number| packed.join(format!("piece-{number}.tar.gz")))
        .collect();
    assert_eq!(fs::read_dir(&packed).unwrap().count(), pieces.len());

    // The first piece is enough to measure with.
    let first = Machine::new(folder.path(), "first", &plugin);
    let printed = first.run(&[&pieces[0]]);
    assert!(printed.contains("training waits for the data"), "{printed}");
    let numerics = first.results("numerics");
    assert_eq!(numerics.len(), 2);
    for result in &numerics {
        // Another formulation on the same processor.
        assert!(result["logits"].as_f64().unwrap() < 1e-4, "{result}");
    }
    let steps = first.results("step");
    let peers: Vec<_> = steps
        .iter()
        .map(|step| step["peer"].as_str().unwrap())
        .collect();
    assert_eq!(peers, ["ours", "jax", "pytorch"]);
    for (peer, step) in peers.iter().zip(&steps) {
        let Some(error) = step.get("error").and_then(Value::as_str) else {
            continue;
        };
        assert!(error.contains("ModuleNotFoundError"), "{peer}: {error}");
        println!("skipped: the step of {peer}: {error}");
    }
    let ours = &steps[0];
    assert_eq!(
        (&ours["depth"], &ours["n"], &ours["batch_size"]),
        (&11.into(), &2.into(), &8.into())
    );
    assert!(
        ours["first_loss"].as_f64().unwrap() > ours["last_loss"].as_f64().unwrap(),
        "{ours}"
    );

    let printed = first.run(&[&pieces[1]]);
    assert!(
        printed.contains("1 of 2 pieces of the data are there"),
        "{printed}"
    );
    first.run(&[&pieces[2]]);
    assert_eq!(first.results("step"), steps, "nothing is measured again");

    // The machine is gone; another one takes everything and what came back.
    let second = Machine::new(folder.path(), "second", &plugin);
    let back = ["state", "checkpoint"].map(|name| first.out.join(format!("{name}.tar.gz")));
    let all: Vec<&Path> = pieces.iter().chain(&back).map(PathBuf::as_path).collect();
    second.run(&all);
    assert_eq!(second.results("step"), steps);
    let run = second.work.join("state/run");
    let reference = folder.path().join("reference");
    let traced = second.work.join("tools/programs/train");
    let args = [
        "--program",
        text(&traced),
        "--plugin",
        text(&plugin),
        "--out-dir",
        text(&reference),
    ];
    succeed(&args);
    assert_same_end(&run, &reference);

    // The tables, in copies of the documents.
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).unwrap();
    for name in ["gpu.md", "accuracy.md"] {
        fs::copy(Path::new(ROOT).join("docs").join(name), docs.join(name)).unwrap();
    }
    let state = second.out.join("state.tar.gz");
    script(&["tables", "--docs", text(&docs), text(&state)]);
    let page = |name: &str| fs::read_to_string(docs.join(name)).unwrap();
    assert!(
        !page("gpu.md").contains("Not measured yet"),
        "{}",
        page("gpu.md")
    );
    assert!(
        page("gpu.md").contains("| resnet-xla "),
        "{}",
        page("gpu.md")
    );
    let accuracy = fs::read_to_string(run.join("result.json")).unwrap();
    let accuracy: Value = serde_json::from_str(&accuracy).unwrap();
    let percent = format!(
        "| 2 | {:.2}% |",
        100.0 * accuracy["val_acc"].as_f64().unwrap()
    );
    assert!(
        page("accuracy.md").contains(&percent),
        "{percent} {}",
        page("accuracy.md")
    );
}

/// The script beside stand-ins, with a machine's folder and what that gives back.
struct StandIns {
    folder: tempfile::TempDir,
}

impl StandIns {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(ROOT).join("tests/accelerator/stand_ins.sh");
        let args = [&script, Path::new(ROOT), folder.path()];
        let output = Command::new("bash").args(args).output().unwrap();
        succeeded(&output);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A call of `run` with its options and pieces, in which stand-ins misbehave as a variable says.
    fn run(&self, args: &str, variable: Option<(&str, &str)>) -> Output {
        let mut command = Command::new("bash");
        command.arg(self.path("scripts/accelerator.sh")).arg("run");
        command.args(["--work", "work", "--out", "out"]);
        command.args(args.split_whitespace()).envs(variable);
        command.current_dir(self.folder.path()).output().unwrap()
    }

    /// The results of one kind among those that the last call gave back.
    fn given_back(&self, kind: &str) -> Vec<Value> {
        let mut command = Command::new("tar");
        command.args(["-xzOf", "out/state.tar.gz", "state/results.jsonl"]);
        let output = command.current_dir(self.folder.path()).output().unwrap();
        of_kind(&succeeded(&output), kind)
    }
}

/// The results of one kind among `lines`.
fn of_kind(lines: &str, kind: &str) -> Vec<Value> {
    let results = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    results
        .filter(|result: &Value| result["kind"] == kind)
        .collect()
}

/// What a command printed, which must have succeeded.
fn succeeded(output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{errors}");
    printed
}

#[test]
fn every_peer_has_its_row_in_both_precisions() {
    let machine = StandIns::new();
    succeeded(&machine.run("piece-0.tar.gz piece-1.tar.gz", None));
    assert_eq!(machine.given_back("numerics").len(), 3);
    assert_eq!(machine.given_back("step").len(), 5 * 2);
    assert!(machine.path("out/checkpoint.tar.gz").exists());

    let docs = machine.path("docs");
    fs::create_dir(&docs).unwrap();
    for name in ["gpu.md", "accuracy.md"] {
        fs::copy(Path::new(ROOT).join("docs").join(name), docs.join(name)).unwrap();
    }
    let mut command = Command::new("bash");
    command.arg(machine.path("scripts/accelerator.sh"));
    command.args(["tables", "--docs", "docs", "out/state.tar.gz"]);
    let output = command.current_dir(machine.folder.path()).output().unwrap();
    succeeded(&output);
    let page = fs::read_to_string(docs.join("gpu.md")).unwrap();
    assert!(!page.contains("gave no result"), "{page}");
    for peer in [
        "resnet-xla",
        "JAX",
        "PyTorch eager contiguous cuda",
        "PyTorch eager channels_last cuda",
        "PyTorch compile channels_last cuda",
    ] {
        for precision in ["f32", "bf16"] {
            let row = format!("| {peer} stand-in | {precision} |");
            assert!(page.contains(&row), "{row}: {page}");
        }
    }
    assert!(page.contains("| 1 | 50.00% |"), "{page}");
}

#[test]
fn a_call_that_fails_gives_back_what_it_has() {
    let machine = StandIns::new();
    let fails = |args: &str, command: &str, reason: &str| {
        // What the call before gave back.
        let _ = fs::remove_dir_all(machine.path("out"));
        let output = machine.run(args, Some(("STAND_IN_FAILS", command)));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    };
    let pieces = "piece-0.tar.gz piece-1.tar.gz";
    fails(pieces, "eval", "numerics: error: eval fails");
    assert_eq!(machine.given_back("machine").len(), 1);
    assert!(machine.given_back("step").is_empty());

    succeeded(&machine.run("--parts numerics,speed", None));
    fails("--parts training", "train", "training ended with 1");
    assert_eq!(machine.given_back("step").len(), 5 * 2);

    // A measurement that fails has a line that says so, and is no end.
    let another = StandIns::new();
    let fails = Some(("STAND_IN_FAILS", "bench"));
    succeeded(&another.run("piece-0.tar.gz", fails));
    let steps = another.given_back("step");
    assert_eq!(steps.len(), 5 * 2);
    assert_eq!(steps[0]["error"], "error: bench fails");
}

#[test]
fn what_the_end_of_a_call_cuts_off_is_measured_by_the_next() {
    let machine = StandIns::new();
    succeeded(&machine.run("--parts numerics piece-0.tar.gz piece-1.tar.gz", None));
    // 30 of these seconds are kept for giving back. The sleeping peer takes the others, however slow the machine is.
    let sleeps = Some(("STAND_IN_SLEEPS", "peer_jax.py"));
    succeeded(&machine.run("--parts speed --seconds 42", sleeps));
    let steps = machine.given_back("step");
    assert!(steps.iter().all(|step| step["peer"] == "ours"), "{steps:?}");

    succeeded(&machine.run("--parts speed", None));
    let steps = machine.given_back("step");
    assert_eq!(steps.len(), 5 * 2);
    assert!(steps.iter().all(|step| step.get("error").is_none()));
}
