//! What the documents name is there: files, tests, and in docs/architecture.md each file of each room.

use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 15] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/accuracy.md",
    "docs/architecture.md",
    "docs/cloud-tpu.md",
    "docs/features.md",
    "docs/gpu.md",
    "docs/hosts.md",
    "docs/networks.md",
    "docs/numerics.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/tutorial.md",
    "docs/your-images.md",
];

/// The folders of the repository that documents name files in.
const FOLDERS: [&str; 16] = [
    ".ci/",
    "assets/",
    "benches/",
    "cpu_client/",
    "cpu_kernels/",
    "docs/",
    "examples/",
    "fuzz/",
    "kernel_contract/",
    "pjrt/",
    "scripts/",
    "src/",
    "templates/",
    "tests/",
    "xla_graphs/",
    "xla_mpi/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What stands between backticks in a document, outside its blocks of code.
fn quoted(document: &str) -> Vec<String> {
    let text = text(document);
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let prose = prose.join("");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let (mut checked, mut gone) = (0, Vec::new());
    for document in DOCUMENTS {
        for path in quoted(document) {
            let placeholder = path.contains("NAME") || path.contains(char::is_whitespace);
            if placeholder || !FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            checked += 1;
            if !root().join(&path).exists() {
                gone.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(gone.is_empty(), "not there: {gone:#?}");
    assert!(checked > 50, "{checked}");
}

#[test]
fn every_test_that_reliability_md_names_is_there() {
    let (mut checked, mut gone) = (0, Vec::new());
    let text = text("docs/reliability.md");
    let promises = text.split("## How a checkpoint").next().unwrap();
    for row in promises.lines().filter(|line| line.starts_with("| ")) {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut before = String::new();
        for name in cell.split('`').skip(1).step_by(2) {
            if !name.contains("::") && !is_test_program(name) {
                continue;
            }
            // `…::x` is of the module that the name before it is of.
            let name = match name.strip_prefix("…::") {
                Some(rest) => format!("{}::{rest}", before.rsplit_once("::").unwrap().0),
                None => name.to_owned(),
            };
            if !is_there(&name) {
                gone.push(name.clone());
            }
            before = name;
            checked += 1;
        }
    }
    assert!(gone.is_empty(), "not there: {gone:#?}");
    assert!(checked > 80, "{checked}");
}

/// The test programs that are called `name`: a file, or a folder with `main.rs`.
fn test_programs(name: &str) -> Vec<PathBuf> {
    let folders = ["tests", "xla_graphs/tests"].map(|folder| root().join(folder));
    let files = [format!("{name}.rs"), format!("{name}/main.rs")];
    folders
        .iter()
        .flat_map(|folder| files.iter().map(|file| folder.join(file)))
        .filter(|path| path.is_file())
        .collect()
}

fn is_test_program(name: &str) -> bool {
    !test_programs(name).is_empty()
}

/// Whether there is a test of this path. One that ends in … is the beginning of a name.
fn is_there(name: &str) -> bool {
    let names: Vec<&str> = name.split("::").collect();
    let in_program = |program: PathBuf| match in_modules(program.parent().unwrap(), &names[1..]) {
        (Some(file), test) => declares(&file, test),
        (None, test) => names.len() <= 2 && declares(&program, test),
    };
    test_programs(names[0]).into_iter().any(in_program) || {
        let (file, test) = in_modules(&root().join("src"), &names);
        file.is_some_and(|file| declares(&file, test))
    }
}

/// Whether the file has the `test`, if one is named.
fn declares(file: &Path, test: Option<&&str>) -> bool {
    let text = fs::read_to_string(file).unwrap();
    let Some(test) = test else { return true };
    let declared = match test.strip_suffix('…') {
        Some(beginning) => format!("fn {beginning}"),
        None => format!("fn {test}("),
    };
    text.contains(&declared)
}

/// The file of the module that `names` begin with, in a crate whose root is in `folder`, and the name of the test in it.
fn in_modules<'a>(folder: &Path, names: &'a [&'a str]) -> (Option<PathBuf>, Option<&'a &'a str>) {
    let (mut folder, mut file) = (folder.to_owned(), None);
    for (index, name) in names.iter().enumerate() {
        let module = [
            folder.join(format!("{name}.rs")),
            folder.join(name).join("mod.rs"),
        ];
        if let Some(found) = module.into_iter().find(|path| path.is_file()) {
            file = Some(found);
            folder.push(name);
        } else if *name != "tests" {
            return (file, names.get(index));
        }
    }
    (file, None)
}

#[test]
fn every_test_that_a_script_runs_is_there() {
    // `cargo test` says nothing of a name that no test has.
    for script in ["scripts/fuzz.sh", "scripts/reliability_long.sh"] {
        let text = text(script);
        let calls = text.lines().filter(|line| line.contains("cargo test"));
        let words = calls.map(|call| call.split(" -- ").next().unwrap().split_whitespace());
        for call in words.map(Vec::from_iter) {
            for pair in call.windows(2) {
                match pair {
                    ["--test", file] => assert!(is_test_program(file), "{script}: {file}"),
                    ["--lib", name] => assert!(is_in_library(name), "{script}: {name}"),
                    _ => {}
                }
            }
        }
    }
    let mpich = text("scripts/hosts_under_mpich.sh");
    let (_, names) = mpich.split_once("--show-output").unwrap();
    let mut names = names.split_whitespace().filter(|word| *word != "\\");
    assert!(names.all(|name| is_there(&format!("hosts::{name}…"))));
}

/// Whether some test of the library has `name` in its path.
fn is_in_library(name: &str) -> bool {
    match name.contains("::") {
        true => is_there(name),
        false => ["src", "src/run"]
            .iter()
            .any(|folder| root().join(folder).join(name).is_dir()),
    }
}

#[test]
fn architecture_md_has_each_file_of_each_room() {
    let architecture = text("docs/architecture.md");
    for room in fs::read_dir(root().join("src")).unwrap() {
        let room = room.unwrap().path();
        if !room.is_dir() {
            continue;
        }
        let name = room.file_name().unwrap().to_str().unwrap();
        let heading = format!("\n### `{name}`");
        let (_, section) = architecture
            .split_once(&heading)
            .unwrap_or_else(|| panic!("docs/architecture.md has no heading for {name}"));
        let section = section.split("\n#").next().unwrap();
        for entry in fs::read_dir(&room).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.file_name().unwrap().to_str().unwrap();
            let row = match entry.is_dir() {
                true => format!("`{name}/`"),
                false => format!("`{name}`"),
            };
            let listed = name == "mod.rs" || is_for_tests(&room, name) || section.contains(&row);
            assert!(
                listed,
                "docs/architecture.md does not list {}",
                entry.display()
            );
        }
    }
}

/// Whether the room has the module `name` in tests alone.
fn is_for_tests(room: &Path, name: &str) -> bool {
    let module = name.trim_end_matches(".rs");
    let text = fs::read_to_string(room.join("mod.rs")).unwrap_or_default();
    text.contains(&format!("#[cfg(test)]\nmod {module};"))
}
