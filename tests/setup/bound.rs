//! `bind_locally.py`, on a library of a few lines: what its references lead to, and what the dynamic linker looks up.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::ran::run_ok;

/// It has a function that the library has as well, and comes before it.
const OTHER: &str = "int shared() { return 7; }";

const LIBRARY: &str = r#"
    __attribute__((weak)) int shared() { return 1; }
    int own() { return 2; }
    extern "C" int of_c() { return 3; }
    namespace space { int numbers[] = {4, 5, 6}; }
    struct Table { virtual int entry() { return 8; } };

    int (*to_shared)() = shared;
    int (*to_own)() = own;
    int (*to_c)() = of_c;
    int* to_third = space::numbers + 2;
    Table table;
    extern "C" int all() {
        Table* behind = &table;
        asm("" : "+r"(behind)); // so that the call goes through the table
        return to_shared() * 10000 + to_own() * 1000 + to_c() * 100 + *to_third * 10 + behind->entry();
    }
"#;

const PROGRAM: &str = r#"
    #include <cstdio>
    int shared();
    extern "C" int all();
    int main() { std::printf("%d", all() + shared() * 100000); }
"#;

/// Compiles `source` to `name` in `folder`.
fn compile(folder: &Path, name: &str, source: &str, arguments: &[&str]) {
    fs::write(folder.join("source.cc"), source).unwrap();
    let mut compiler = Command::new("c++");
    compiler.current_dir(folder).args(["-O1", "-fPIC"]);
    compiler.args(["source.cc", "-o", name, "-L.", "-Wl,-rpath,$ORIGIN"]);
    run_ok(compiler.args(arguments));
}

/// What the program prints, and the symbols of the library that the dynamic linker looks up for it.
fn run(folder: &Path) -> (String, Vec<String>) {
    let mut program = Command::new(folder.join("program"));
    let log = folder.join("log");
    program.env("LD_DEBUG", "bindings");
    program.env("LD_DEBUG_OUTPUT", &log);
    let printed = run_ok(&mut program);
    let mut looked_up = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().starts_with("log.") {
            continue;
        }
        // As in: binding file /x/library.so [0] to /x/other.so [0]: normal symbol `_Z6sharedv'
        let text = fs::read_to_string(file.path()).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains("/library.so [0] to "));
        looked_up.extend(lines.filter_map(|line| Some(line.split(['`', '\'']).nth(1)?.to_owned())));
        fs::remove_file(file.path()).unwrap();
    }
    (printed, looked_up)
}

#[test]
fn a_library_finds_what_it_found_before_with_fewer_symbols_to_look_up() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    compile(folder, "other.so", OTHER, &["-shared"]);
    compile(folder, "library.so", LIBRARY, &["-shared"]);
    let needed = ["-Wl,--no-as-needed", "-l:other.so", "-l:library.so"];
    compile(folder, "program", PROGRAM, &needed);

    // The digits: what `shared` gives to the program and to the library, then what the library's own symbols lead to.
    let (printed, before) = run(folder);
    assert_eq!(printed, "772368");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("xla_runtime/bind_locally.py");
    let mut bind = Command::new("python3");
    bind.current_dir(folder).arg(script);
    run_ok(bind.args(["library.so", "other.so"]));
    let (printed, after) = run(folder);
    assert_eq!(printed, "772368");

    let there = |symbols: &[String], name: &str| symbols.iter().any(|symbol| symbol == name);
    for own in [
        "_Z3ownv",
        "_ZN5space7numbersE",
        "_ZN5Table5entryEv",
        "_ZTV5Table",
    ] {
        assert!(
            there(&before, own) && !there(&after, own),
            "{own}: {before:?} {after:?}"
        );
    }
    for kept in ["_Z6sharedv", "of_c"] {
        assert!(
            there(&before, kept) && there(&after, kept),
            "{kept}: {before:?} {after:?}"
        );
    }
}
