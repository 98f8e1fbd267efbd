//! What the program says: each error once and on one line, and no name that steers the terminal.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::quick_run;
use program::{program, run, succeed, text};

/// A name that turns the text red, breaks the line, clears the screen by a single character and turns the direction of
/// writing round.
const NAME: &str = "a\u{1b}[31mb\nc\u{9b}2J\u{202e}d.png";
/// The same as it is shown.
const SHOWN: &str = "a\\u{1b}[31mb\\nc\\u{9b}2J\\u{202e}d.png";

/// The Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_error_with_words_of_its_own_shows_its_cause_on_one_line_and_does_not_return_it_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for path in ["src", "xla_graphs/src"]
        .map(|folder| sources(&root.join(folder)))
        .concat()
    {
        let source = fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for variant in code.split("#[error(").skip(1) {
            // To the next variant, or the end of the type.
            let variant = variant.split("\n}").next().unwrap();
            if variant.starts_with("transparent") {
                continue;
            }
            seen += 1;
            let place = format!("{}: {variant}", path.display());
            for returned in ["#[from]", "#[source]", " source:"] {
                assert!(!variant.contains(returned), "{returned} in {place}");
            }
            let words = variant.split(")]").next().unwrap();
            assert!(!words.contains("\\n"), "two lines in {place}");
        }
    }
    assert!(seen > 50, "{seen}");
}

/// Whether something in `said` would steer a terminal; newlines and tabs are the program's own.
fn steers(said: &str) -> bool {
    said.chars()
        .any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}')
}

#[test]
fn errors_are_one_line_that_says_each_cause_once_and_no_temporary_name() {
    // The usual prefix of a temporary folder is the ending of a temporary file.
    let folder = tempfile::Builder::new().prefix("words").tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = at("run");
    succeed(&quick_run(Path::new(&made), "--max-steps 1 --eval-steps 1"));
    fs::write(at("file"), "text").unwrap();
    fs::write(at("broken.toml"), "depth = 11\n[lr\nx").unwrap();
    fs::write(at("type.toml"), "depth = 11\nlr = \"fast\"\n").unwrap();
    fs::write(at("key.toml"), "\"a\\nb\\u001b[31m\" = 1\n").unwrap();
    fs::write(at("torn.csv"), "epoch,loss\n\"").unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("taken.safetensors")).unwrap();
    let no_such = "No such file or directory";
    for (args, expected) in [
        (vec!["eval", "--checkpoint", &at("gone")], "no checkpoint"),
        (
            vec!["eval", "--checkpoint", &at("empty")],
            "no checkpoint in",
        ),
        (
            vec!["eval", "--checkpoint", &at("file")],
            "begins with `text`",
        ),
        (vec!["-c", &at("gone.toml")], no_such),
        (vec!["-c", &at("broken.toml")], "line 2"),
        (vec!["-c", &at("type.toml")], "lr"),
        (
            vec!["-c", &at("key.toml")],
            "unknown key `a\\nb\\u{1b}[31m`",
        ),
        (vec!["plot", &at("gone")], no_such),
        (vec!["plot", &at("empty")], no_such),
        (vec!["plot", &at("torn.csv")], "torn.csv"),
        (vec!["plot", &made, "--out-dir", &at("file")], "file"),
        (
            vec!["plot", &made, "--out-dir", &at("file/x")],
            "Not a directory",
        ),
        (vec!["report", "--checkpoint", &at("gone")], "no checkpoint"),
        (
            vec!["report", "--checkpoint", &made, "--out", &at("gone/x.html")],
            no_such,
        ),
        (
            vec![
                "export",
                "--checkpoint",
                &made,
                "--out",
                &at("gone/x.safetensors"),
            ],
            no_such,
        ),
        (
            vec![
                "export",
                "--checkpoint",
                &made,
                "--out",
                &at("taken.safetensors"),
            ],
            "expected the name of a file",
        ),
        (
            vec![
                "eval",
                "--checkpoint",
                &made,
                "--dump-logits",
                &at("gone/x.npy"),
            ],
            no_such,
        ),
        (
            vec!["fetch", "--data-dir", &at("file/x")],
            "Not a directory",
        ),
        (
            vec!["--preset", "quick", "--out-dir", &at("file")],
            "expected a folder",
        ),
        (
            vec!["--preset", "quick", "--out-dir", &at("file/x")],
            "Not a directory",
        ),
        (
            vec![
                "--preset",
                "quick",
                "--out-dir",
                &at("new"),
                "--init-weights",
                &at("gone"),
            ],
            no_such,
        ),
        (vec!["--plugin", &at("gone.so")], "not there"),
        (vec!["--plugin", &at("file")], "not a shared library"),
    ] {
        let output = run(&args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && output.status.code().is_some(),
            "{args:?}: {said}"
        );
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{args:?}: {said}");
        assert_eq!(said.lines().last(), Some(errors[0]), "{args:?}: {said}");
        assert_eq!(
            errors[0].matches(expected).count(),
            1,
            "{expected} {args:?}: {said}"
        );
        assert!(
            errors[0].matches("(os error").count() <= 1,
            "{args:?}: {said}"
        );
        assert!(!said.contains(".tmp"), "{args:?}: {said}");
        assert!(!steers(&said), "{args:?}: {said:?}");
    }
}

#[test]
fn names_with_escape_sequences_and_newlines_are_written_out() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join(NAME);
    image::RgbImage::new(40, 40).save(&picture).unwrap();
    // The run's folder has the name too.
    let out_dir = folder.path().join(NAME.replace(".png", ""));
    let shown_dir = SHOWN.replace(".png", "");
    let out = text(&out_dir);
    let said = |args: &[&str], code: i32| {
        let output = program(args).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(
            !steers(&errors) && !steers(&printed),
            "{args:?}: {errors:?} {printed:?}"
        );
        (printed, errors)
    };
    let (_, errors) = said(&quick_run(&out_dir, "--max-steps 1 --eval-steps 1"), 0);
    assert!(errors.contains(&format!("{shown_dir}\n")), "{errors}");
    let log = fs::read_to_string(out_dir.join("train.log")).unwrap();
    assert!(log.contains(&shown_dir) && !steers(&log), "{log:?}");

    let predictions = folder.path().join(format!("{NAME}.out.png"));
    let predict = [
        "predict",
        "--checkpoint",
        out,
        text(&picture),
        "--out",
        text(&predictions),
    ];
    let (printed, errors) = said(&predict, 0);
    let row = printed.lines().next().unwrap();
    assert!(row.contains(SHOWN) && row.contains('%'), "{printed}");
    assert!(
        printed.ends_with(&format!("{SHOWN}.out.png\n")),
        "{printed}"
    );
    assert!(errors.contains(&shown_dir), "{errors}");
    let (json, _) = said(&[&predict[..], &["--json"]].concat(), 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["image"], text(&picture));

    let weights = folder.path().join(format!("{NAME}.safetensors"));
    let (line, _) = said(&["export", "--checkpoint", out, "--out", text(&weights)], 0);
    assert!(line.contains(SHOWN) && line.lines().count() == 1, "{line}");
    let (lines, _) = said(
        &["plot", out, out, "--out-dir", text(&out_dir.join("plots"))],
        0,
    );
    assert_eq!(lines.lines().count(), 4, "{lines}");
    let svg = fs::read_to_string(out_dir.join("plots/loss.svg")).unwrap();
    assert!(svg.contains(&shown_dir), "the legend names the run");
    let (report, _) = said(&["doctor", "--device", "cpu", "--data-dir", out], 0);
    assert!(report.contains(&shown_dir), "{report}");

    let gone = folder.path().join(format!("gone{NAME}"));
    let (_, errors) = said(&["eval", "--checkpoint", text(&gone)], 3);
    let last = errors.lines().last().unwrap();
    assert!(
        last.starts_with("error: ") && last.contains(SHOWN),
        "{errors}"
    );
    let (_, errors) = said(&["--depth", NAME], 2);
    assert!(errors.contains("--depth"), "{errors}");
    let (_, errors) = said(&["--device", "cpu", "--plugin", text(&gone)], 4);
    assert!(errors.contains(SHOWN), "{errors}");
}
