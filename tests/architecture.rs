//! The rooms of `src/` use each other downwards only, and so do the modules of `xla_graphs`.
//!
//! `docs/architecture.md` draws the floors. A test module may use what it likes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/` from the ground up: each may use itself and those before it.
const ROOMS: [&str; 14] = [
    "system", "data", "device", "model", "score", "run", "predict", "show", "bench", "compile",
    "export", "import", "cli", "fuzzing",
];

/// The modules of `xla_graphs/src/`, likewise.
const GRAPHS: [&str; 14] = [
    "error",
    "arrays",
    "average",
    "table",
    "collective",
    "tensors",
    "trained",
    "loops",
    "ops",
    "optimiser",
    "network",
    "model",
    "step",
    "absent",
];

/// A source file: the module at the top of its path, its name for messages, its text.
struct Source {
    module: String,
    name: String,
    text: String,
}

#[test]
fn every_arrow_between_rooms_points_down() {
    let found = upward_arrows(&sources(Path::new("src")), &ROOMS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_arrow_between_the_modules_of_xla_graphs_points_down() {
    let found = upward_arrows(&sources(Path::new("xla_graphs/src")), &GRAPHS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_room_has_its_floor() {
    for (folder, floors) in [("src", &ROOMS[..]), ("xla_graphs/src", &GRAPHS[..])] {
        let there: BTreeSet<String> = sources(Path::new(folder))
            .into_iter()
            .map(|source| source.module)
            .collect();
        let listed: BTreeSet<String> = floors.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(there, listed, "{folder}");
    }
}

#[test]
fn a_planted_upward_arrow_is_found() {
    let plant = |module: &str, text: &str| {
        let source = Source {
            module: module.to_owned(),
            name: format!("src/{module}/planted.rs"),
            text: text.to_owned(),
        };
        upward_arrows(&[source], &ROOMS)
    };
    let expected = ["src/data/planted.rs: `data` uses `cli`, which is above it"];
    assert_eq!(plant("data", "use crate::cli::exit;"), expected);
    assert_eq!(
        plant(
            "data",
            "use crate::{\n    system::lock,\n    cli::exit,\n};"
        ),
        expected
    );
    assert_eq!(plant("data", "let x = crate::cli::exit::DATA;"), expected);
    assert!(plant("cli", "use crate::data::load;").is_empty());
    assert!(plant("data", "//! [`crate::cli`] is above").is_empty());
    assert!(plant("data", "#[cfg(test)]\nmod tests {\n    use crate::cli;\n}").is_empty());
    // Tests in a file of their own are declared above the code.
    let below = plant("data", "#[cfg(test)]\nmod tests;\n\nuse crate::cli::exit;");
    assert_eq!(below, expected);
}

/// A line for each file and each module that it uses although it is on a higher floor.
fn upward_arrows(sources: &[Source], floors: &[&str]) -> Vec<String> {
    let floor = |module: &str| floors.iter().position(|&name| name == module);
    let mut found = Vec::new();
    for source in sources {
        for used in modules_used(&source.text) {
            if floor(&used) > floor(&source.module) {
                let Source { module, name, .. } = source;
                found.push(format!(
                    "{name}: `{module}` uses `{used}`, which is above it"
                ));
            }
        }
    }
    found
}

/// The first part of every path behind `crate::`, in code outside of test modules.
fn modules_used(text: &str) -> BTreeSet<String> {
    // By this project's custom the test module is the last thing in a file.
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(group) => used.extend(heads_of_group(group)),
            None => used.extend(name_at_start(path)),
        }
    }
    used
}

/// The first name of each path in `a::b, c::{d, e}, f}` up to the brace that closes the group.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut at_start, mut heads) = (0, true, Vec::new());
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && character.is_alphabetic() => {
                heads.extend(name_at_start(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn name_at_start(path: &str) -> Option<String> {
    let end = path
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The files of the modules in `folder`: without `lib.rs`, the binary in `front/` and what only tests compile.
fn sources(folder: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for path in files_in(folder) {
        let inside = path.strip_prefix(folder).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        if ["front", "lib"].contains(&module.as_str()) || is_for_tests(&path) {
            continue;
        }
        found.push(Source {
            module,
            name: path.display().to_string(),
            text: fs::read_to_string(&path).unwrap(),
        });
    }
    assert!(!found.is_empty(), "no sources in {}", folder.display());
    found
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Whether the module that declares the file does so for tests alone.
fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let parent = path.with_file_name("mod.rs");
    let Ok(declarations) = fs::read_to_string(parent) else {
        return false;
    };
    declarations
        .lines()
        .zip(declarations.lines().skip(1))
        .any(|(attribute, declaration)| {
            attribute == "#[cfg(test)]"
                && declaration.trim_start_matches("pub ") == format!("mod {stem};")
        })
}
