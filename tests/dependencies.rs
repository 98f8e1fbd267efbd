//! What the program is built from: crates of the public registry, each with its checksum and a licence that
//! `deny.toml` names.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};
use toml::Table;

/// The table in `file`, which lies in the repository's root.
fn table(file: &str) -> Table {
    let folder = env!("CARGO_MANIFEST_DIR");
    fs::read_to_string(format!("{folder}/{file}"))
        .unwrap()
        .parse()
        .unwrap()
}

/// The crates of this repository, by their folders.
const OURS: [(&str, &str); 7] = [
    (".", "resnet-xla"),
    ("cpu_client", "cpu_client"),
    ("cpu_kernels", "cpu_kernels"),
    ("fuzz", "resnet-xla-fuzz"),
    ("kernel_contract", "kernel_contract"),
    ("pjrt", "pjrt"),
    ("xla_graphs", "xla_graphs"),
];

#[test]
fn every_dependency_in_the_lock_files_comes_from_the_one_registry_with_a_checksum() {
    let mut sources = HashSet::new();
    for file in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = table(file);
        let packages = lock["package"].as_array().unwrap();
        assert!(packages.len() > 100);
        for package in packages {
            let get = |key| package.get(key).and_then(|value| value.as_str());
            let name = get("name").unwrap();
            if OURS.iter().any(|(_, ours)| *ours == name) {
                continue;
            }
            let source = get("source").unwrap_or_else(|| panic!("{name} is of no registry"));
            assert!(source.starts_with("registry+"), "{name}: {source}");
            sources.insert(source.to_owned());
            assert_eq!(get("checksum").map(str::len), Some(64), "{name}");
        }
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
}

/// No build of the program reads the fuzzers' lock file, so that it can grow stale unnoticed.
#[test]
fn the_fuzzers_are_locked_to_what_the_manifests_ask_for_in_the_versions_of_the_program() {
    let (program, fuzzers) = (table("Cargo.lock"), table("fuzz/Cargo.lock"));
    for (folder, name) in OURS {
        let manifest = table(&format!("{folder}/Cargo.toml"));
        let tables = ["dependencies", "build-dependencies"];
        let tables = tables
            .iter()
            .filter_map(|kind| manifest.get(*kind)?.as_table());
        let asked: BTreeSet<&str> = tables.flat_map(Table::keys).map(String::as_str).collect();
        let lists =
            locked(&fuzzers, name).filter_map(|package| package.get("dependencies")?.as_array());
        // A name that is not unique is followed by a version.
        let words = lists
            .flatten()
            .filter_map(|word| word.as_str()?.split(' ').next());
        let locked_names: BTreeSet<&str> = words.collect();
        assert_eq!(locked_names, asked, "{name}: {STALE}");
        for dependency in asked {
            let versions = |lock| -> Vec<&str> {
                locked(lock, dependency)
                    .map(|package| package["version"].as_str().unwrap())
                    .collect()
            };
            let known = versions(&program);
            for version in versions(&fuzzers) {
                // The program does without what only fuzzers need.
                assert!(
                    known.is_empty() || known.contains(&version),
                    "{dependency} {version}: {STALE}"
                );
            }
        }
    }
}

const STALE: &str = "fuzz/Cargo.lock is stale: run `cargo update --workspace` in fuzz/, and see that the versions are those of \
                     Cargo.lock";

/// The packages called `name` in a lock file.
fn locked<'a>(lock: &'a Table, name: &str) -> impl Iterator<Item = &'a Table> {
    let packages = lock["package"].as_array().unwrap().iter();
    let packages = packages.filter_map(toml::Value::as_table);
    packages.filter(move |package| package["name"].as_str() == Some(name))
}

#[test]
fn every_dependency_may_be_used_under_a_licence_that_deny_toml_allows() {
    let deny = table("deny.toml");
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let packages = packages();
    assert!(packages.len() > 100);
    for package in packages {
        let (name, licence) = (&package["name"], &package["license"]);
        let licence = licence
            .as_str()
            .unwrap_or_else(|| panic!("{name} has none"));
        let expression = Expression::parse_mode(licence, ParseMode::LAX).unwrap();
        let may = expression.evaluate(|requirement| {
            let id = requirement.license.id().map(|id| id.name);
            requirement.addition.is_none() && id.is_some_and(|id| allowed.contains(&id))
        });
        assert!(may, "{name}: {licence}");
    }
}

#[test]
fn every_dependency_builds_with_the_oldest_rust_that_cargo_toml_names() {
    let manifest = table("Cargo.toml");
    let ours = &manifest["workspace"]["package"]["rust-version"];
    let ours = numbers(ours.as_str().unwrap());
    for package in packages() {
        // A package need not say what it needs.
        let Some(needed) = package["rust_version"].as_str() else {
            continue;
        };
        let name = &package["name"];
        assert!(numbers(needed) <= ours, "{name} needs Rust {needed}");
    }
}

#[test]
fn the_build_without_tracing_has_no_xla_and_no_bindgen() {
    // The names of what is compiled, its build scripts' dependencies included.
    let names = |more: &[&str]| -> HashSet<String> {
        let output = Command::new(env!("CARGO"))
            .args("tree --package resnet-xla --edges normal,build".split(' '))
            .args("--prefix none --format {p} --locked --offline".split(' '))
            .args(more)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let tree = String::from_utf8(output.stdout).unwrap();
        let first_words = tree.lines().filter_map(|line| line.split(' ').next());
        first_words.map(str::to_owned).collect()
    };
    let (full, small) = (names(&[]), names(&["--no-default-features"]));
    for name in ["xla", "bindgen"] {
        assert!(full.contains(name), "{name}");
        assert!(!small.contains(name), "{name}");
    }
    assert!(small.contains("pjrt") && small.contains("xla_graphs"));
}

/// "1.89" as [1, 89, 0].
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    [0; 3].map(|zero| numbers.next().unwrap_or(zero))
}

/// All packages that a build on this machine takes, as cargo describes them.
fn packages() -> Vec<Value> {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host.unwrap()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "{errors}");
    let mut metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("no list of packages but {other}"),
    }
}
