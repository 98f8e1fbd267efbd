//! What the program is built from: crates of the public registry, each with its checksum and a licence that
//! `deny.toml` names.

use std::collections::HashSet;
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

#[test]
fn every_dependency_in_the_lock_files_comes_from_the_one_registry_with_a_checksum() {
    const OURS: [&str; 7] = [
        "cpu_client",
        "cpu_kernels",
        "kernel_contract",
        "pjrt",
        "resnet-xla",
        "resnet-xla-fuzz",
        "xla_graphs",
    ];
    let mut sources = HashSet::new();
    for file in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = table(file);
        let packages = lock["package"].as_array().unwrap();
        assert!(packages.len() > 100);
        for package in packages {
            let get = |key| package.get(key).and_then(|value| value.as_str());
            let name = get("name").unwrap();
            if OURS.contains(&name) {
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
