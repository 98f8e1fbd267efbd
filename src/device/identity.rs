//! What a compiled program depends on besides the program, so that it is loaded nowhere else.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::device::flags::{self, XLA_FLAGS};
use crate::system::{proc, sha256};

/// Variables that change what is compiled.
const VARIABLES: [&str; 5] = [
    XLA_FLAGS,
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_XLA_FLAGS",
    // How many processors XLA counts.
    "NPROC",
];

/// Of whatever the library at `compiler` compiles in this process.
pub fn of(compiler: &Path) -> Vec<String> {
    let processors = Processors {
        features: proc::cpu_features().unwrap_or_default(),
        allowed: proc::allowed_processors().unwrap_or_default(),
    };
    of_these(compiler, processors, |name| {
        env::var(name).unwrap_or_default()
    })
}

/// What compiled code may use of the machine.
struct Processors {
    features: String,
    /// Code is split for as many threads.
    allowed: String,
}

/// Of whatever the library at `compiler` compiles on these `processors`, with these values of variables.
fn of_these(
    compiler: &Path,
    processors: Processors,
    variable: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut identity = vec![
        file_identity(compiler),
        processors.features,
        processors.allowed,
    ];
    identity.extend(VARIABLES.map(|name| with_flag_file(&variable(name))));
    identity
}

/// Which file a library is: its place, and what changes when it is replaced.
fn file_identity(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let facts = path.metadata().ok();
    let facts = facts.map(|facts| {
        [
            facts.len() as i64,
            facts.ino() as i64,
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
        ]
    });
    format!("{path:?} {facts:?}")
}

/// The `value` of a variable of flags, with the content of the file that it names, if it does.
fn with_flag_file(value: &str) -> String {
    match flags::in_file(value) {
        Some(content) => format!("{value} {}", sha256::sum(&content)),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_flags_counts_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flags");
        let value = file.to_str().unwrap();
        let identity = |content: &str| {
            fs::write(&file, content).unwrap();
            with_flag_file(value)
        };
        assert_ne!(identity("--xla_a=1"), identity("--xla_a=2"));
        assert_eq!(identity("--xla_a=1"), identity("--xla_a=1"));
        for value in ["", " --xla_a=1", "0", "/no/such/file"] {
            assert_eq!(with_flag_file(value), value);
        }
    }

    #[test]
    fn other_processors_and_other_variables_are_other_identities() {
        let library = Path::new("/no/such/library.so");
        let identity = |features: &str, allowed: &str, set: &str| {
            let processors = Processors {
                features: features.to_owned(),
                allowed: allowed.to_owned(),
            };
            let value = |name: &str| if name == set { "1" } else { "" }.to_owned();
            of_these(library, processors, value)
        };
        let here = identity("sse avx avx2", "0-1", "");
        assert_eq!(here, identity("sse avx avx2", "0-1", "PATH"));
        assert_ne!(here, identity("sse avx avx2 avx512f", "0-1", ""));
        assert_ne!(here, identity("sse avx avx2", "0-3", ""));
        for variable in VARIABLES {
            assert_ne!(here, identity("sse avx avx2", "0-1", variable));
        }
        // What `of` takes them from.
        let features = proc::cpu_features().unwrap_or_default();
        assert!(of(library).contains(&features));
    }

    #[test]
    fn a_library_that_was_replaced_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (file, new) = (folder.path().join("a.so"), folder.path().join("new"));
        fs::write(&file, "one").unwrap();
        let before = file_identity(&file);
        assert_eq!(file_identity(&file), before);
        // Of the same size and time.
        fs::write(&new, "two").unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        let opened = fs::File::options().write(true).open(&new).unwrap();
        opened.set_modified(time).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_ne!(file_identity(&file), before);
    }
}
