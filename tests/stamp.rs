//! The commit that is stamped into the program says `-dirty` when anything that the program is made of was changed:
//! `build.rs` watches all of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `build.rs` watches: the strings of its list.
fn watched() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("build.rs")).unwrap();
    let (_, list) = text.split_once("const SOURCES").unwrap();
    let (_, list) = list.split_once("= [").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The crates of the workspace beside the program itself.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: Table = manifest.parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| member.as_str().unwrap().to_owned())
        .collect()
}

/// The topmost folders, or files, that sources in `folder` take in: by `include_bytes!` or `include_str!`, or as a template.
fn taken_in(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(folder) {
        let text = fs::read_to_string(&file).unwrap();
        // What tests take in is no part of the program. They are the last thing in a file.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        if text.contains("#[template(") {
            found.insert("templates".to_owned());
        }
        for call in ["include_bytes!(\"", "include_str!(\""] {
            for rest in text.split(call).skip(1) {
                let path = rest.split('"').next().unwrap();
                let path = file.parent().unwrap().join(path).canonicalize().unwrap();
                let inside = path.strip_prefix(root().canonicalize().unwrap()).unwrap();
                let first = inside.iter().next().unwrap();
                found.insert(first.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("src/fuzzing") {
            // Only built for tests.
        } else if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn build_rs_watches_all_that_the_program_is_made_of() {
    let mut made_of =
        BTreeSet::from(["Cargo.lock", "Cargo.toml", "build.rs", "src"].map(str::to_owned));
    made_of.extend(taken_in(&root().join("src")));
    for member in members() {
        made_of.extend(taken_in(&root().join(&member).join("src")));
        made_of.insert(member);
    }
    assert!(made_of.contains("assets") && made_of.contains("templates"));
    assert_eq!(watched(), made_of);
}

#[test]
fn all_that_build_rs_watches_is_there() {
    // It leaves out what is not: a misspelt name would be watched by nobody.
    for name in watched() {
        assert!(root().join(&name).exists(), "{name}");
    }
}
