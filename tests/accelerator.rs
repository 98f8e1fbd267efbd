//! `scripts/accelerator.sh` from end to end in its short form, with the CPU plugin in the place of a GPU: pieces are packed,
//! carried one after the other, measured and trained with; another machine goes on with what came back.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        let results = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        results
            .filter(|result: &Value| result["kind"] == kind)
            .collect()
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
