//! Environment variables that have the program's prefix but are unknown.

use std::ffi::OsString;

use crate::cli::arguments;
use crate::cli::spelling::near_miss;

const PREFIX: &str = "RESNET_XLA_";

/// Known variables other than those of options, without the prefix: for the program's lower rooms, for setup, for the
/// build (cargo passes them on to what it runs), and for the tests.
const OTHERS: [&str; 19] = [
    "BIN",
    "BUILT_IN",
    "CACHE",
    "FULL_BIN",
    "HANG_SECONDS",
    "ISA",
    "MEET_SECONDS",
    "RUNTIME",
    "RUNTIME_DIR",
    "RUNTIME_FILES",
    "RUSTC",
    "GIT_COMMIT",
    "HOSTILE_CASES",
    "KILL_ROUNDS",
    "REFERENCE_164",
    "SEEDS",
    "SIGNAL_ROUNDS",
    "SOAK_ARGS",
    "SOAK_STEPS",
];
/// The prefix of hooks for tests.
const TEST_HOOK: &str = "TEST_";

/// Warns about each variable in `names` that has the program's prefix but is not read by anything.
pub fn warn_of_unknown(names: impl Iterator<Item = OsString>) {
    let known = known();
    let mut unknown: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| is_unknown(name, &known))
        .collect();
    unknown.sort();
    for name in unknown {
        log::warn!("{}", warning(&name, &known));
    }
}

/// The known names, without the prefix.
fn known() -> Vec<String> {
    let options = arguments::variables();
    let options = options.iter().filter_map(|name| name.strip_prefix(PREFIX));
    options.chain(OTHERS).map(str::to_owned).collect()
}

fn is_unknown(name: &str, known: &[String]) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        !rest.starts_with(TEST_HOOK) && !known.iter().any(|known| known == rest)
    })
}

fn warning(name: &str, known: &[String]) -> String {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let hint = near_miss(rest, known).map_or(String::new(), |near| {
        format!(", did you mean {PREFIX}{near}?")
    });
    format!("the environment variable {name} is unknown and has no effect{hint}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn a_misspelt_variable_is_named_with_the_near_miss() {
        let known = known();
        for (wrong, near) in [
            ("EPOCH", "EPOCHS"),
            ("DEVICES", "DEVICE"),
            ("OUTDIR", "OUT_DIR"),
            ("BATCHSIZE", "BATCH_SIZE"),
        ] {
            let name = format!("{PREFIX}{wrong}");
            assert!(is_unknown(&name, &known));
            let warning = warning(&name, &known);
            let ends = warning.ends_with(&format!("did you mean {PREFIX}{near}?"));
            assert!(ends && warning.contains(&format!("{name} ")), "{warning}");
        }
        let far = warning(&format!("{PREFIX}QQQ"), &known);
        assert!(!far.contains("did you mean"), "{far}");
    }

    #[test]
    fn every_variable_that_the_repository_names_is_known() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let known = known();
        let mut named = BTreeSet::new();
        for place in ["src", "tests", "scripts", "setup", "build.rs", "README.md"] {
            for file in files_in(&root.join(place)) {
                let text = fs::read(file).unwrap();
                named.extend(names_in(&String::from_utf8_lossy(&text)));
            }
        }
        assert!(named.contains(&format!("{PREFIX}KILL_ROUNDS")), "{named:?}");
        let unknown: Vec<_> = named
            .iter()
            .filter(|name| is_unknown(name, &known))
            .collect();
        assert!(unknown.is_empty(), "add to OTHERS: {unknown:?}");
    }

    fn files_in(place: &Path) -> Vec<PathBuf> {
        if !place.is_dir() {
            return vec![place.to_owned()];
        }
        let entries = fs::read_dir(place).unwrap();
        entries
            .flat_map(|entry| files_in(&entry.unwrap().path()))
            .collect()
    }

    /// The names with the prefix in `text`; the prefix alone does not count.
    fn names_in(text: &str) -> Vec<String> {
        let of_name = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
        let rests = text.split(PREFIX).skip(1);
        let rests = rests.map(|rest| rest.chars().take_while(of_name).collect::<String>());
        rests
            .filter(|rest| !rest.is_empty())
            .map(|rest| format!("{PREFIX}{rest}"))
            .collect()
    }
}
