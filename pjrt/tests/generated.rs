//! The committed types of the PJRT C API are those of the XLA runtime's header.

#![cfg(feature = "header")]

use std::fs;
use std::path::Path;

/// Set to `write`, it has the committed files replaced by those of the header.
const VARIABLE: &str = "PJRT_GENERATED";

/// Checks `src/generated/NAME` against `generated`, which the build script made of the header.
fn check(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/generated")
        .join(name);
    if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
        fs::write(&path, generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        flat(&committed) == flat(generated),
        "{} is not what the runtime's header gives: run {VARIABLE}=write cargo test -p pjrt --test generated",
        path.display()
    );
}

/// `text` without what depends on who formats it.
fn flat(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.replace(",)", ")")
        .replace(",}", "}")
        .replace(",>", ">")
}

#[test]
fn the_types_are_those_of_the_runtimes_header() {
    check(
        "bindings.rs",
        include_str!(concat!(env!("OUT_DIR"), "/bindings.rs")),
    );
}

#[test]
fn each_function_is_paired_with_its_arguments() {
    let calls = include_str!(concat!(env!("OUT_DIR"), "/calls.rs"));
    assert!(calls.lines().count() > 100);
    check("calls.rs", calls);
}
