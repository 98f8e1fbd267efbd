//! Checks the output paths before a command starts: no output overwrites an input, and a file's
//! extension matches its content.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A path with the option or argument that names it: `--out`, `IMAGE`.
#[derive(Clone, Debug)]
pub struct Named {
    pub by: &'static str,
    pub path: PathBuf,
}

impl Named {
    pub fn new(by: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            by,
            path: path.into(),
        }
    }
}

/// An output that a command refuses to write. The program exits with code 2.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(
        "{} {} would overwrite {} {}, which the command reads; name another place with {}",
        output.by, output.path.display(), input.by, input.path.display(), output.by
    )]
    Input { output: Named, input: Named },
    #[error("{by}: expected a name that ends in .{ending}, got {}", path.display())]
    Ending {
        by: &'static str,
        ending: &'static str,
        path: PathBuf,
    },
    #[error(
        "{by}: expected a name that ends in {endings}, as the format does, got {} (scripts/keras_weights.py converts \
         .safetensors to .h5)", path.display()
    )]
    NoFormat {
        by: &'static str,
        endings: String,
        path: PathBuf,
    },
    #[error(
        "--overwrite would remove {}, which {} needs; copy it to another place first, or choose another folder with \
         --out-dir",
        input.path.display(), input.by
    )]
    Removed { input: Named },
    #[error("{by}: expected the name of a file, but {} is something else", path.display())]
    NotAFile { by: &'static str, path: PathBuf },
}

/// A file that a command writes.
pub struct Output<'a> {
    /// The option that names the file.
    pub by: &'static str,
    pub path: &'a Path,
    /// The required extension.
    pub ending: &'static str,
}

impl Output<'_> {
    /// Refuses a wrong extension, a path that is not a regular file, and the path of one of `inputs`.
    pub fn check(&self, inputs: &[Named]) -> Result<(), OutputError> {
        let ending = self.path.extension();
        if !ending.is_some_and(|found| found.eq_ignore_ascii_case(self.ending)) {
            return Err(OutputError::Ending {
                by: self.by,
                ending: self.ending,
                path: self.path.to_owned(),
            });
        }
        if fs::metadata(self.path).is_ok_and(|found| !found.is_file()) {
            return Err(OutputError::NotAFile {
                by: self.by,
                path: self.path.to_owned(),
            });
        }
        keep_inputs(&Named::new(self.by, self.path), inputs)
    }
}

/// Refuses an `output` that is also one of `inputs`.
pub fn keep_inputs(output: &Named, inputs: &[Named]) -> Result<(), OutputError> {
    let taken = |input: &&Named| same_file(&output.path, &input.path);
    match inputs.iter().find(taken) {
        Some(input) => Err(OutputError::Input {
            output: output.clone(),
            input: input.clone(),
        }),
        None => Ok(()),
    }
}

/// Refuses to remove `files` if one of them is also one of `inputs`.
pub fn spare_inputs(files: &[PathBuf], inputs: &[Named]) -> Result<(), OutputError> {
    let removed = |input: &&Named| files.iter().any(|file| same_file(file, &input.path));
    match inputs.iter().find(removed) {
        Some(input) => Err(OutputError::Removed {
            input: input.clone(),
        }),
        None => Ok(()),
    }
}

/// Whether two paths lead to the same file: through links, another spelling, or another hard link. For
/// files that do not exist yet, whether they would.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => resolved(a).is_some_and(|a| resolved(b) == Some(a)),
        _ => false,
    }
}

/// `path` with its folder's links resolved.
fn resolved(path: &Path) -> Option<PathBuf> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn png(path: &Path) -> Output<'_> {
        Output {
            by: "--out",
            path,
            ending: "png",
        }
    }

    #[test]
    fn an_input_is_known_by_any_name_that_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let input = root.join("cat.png");
        fs::write(&input, "precious").unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        symlink(&input, root.join("link.png")).unwrap();
        symlink(root, root.join("loop")).unwrap();
        fs::hard_link(&input, root.join("twin.png")).unwrap();
        let inputs = [Named::new("IMAGE", &input)];
        for other in [
            "cat.png",
            "./cat.png",
            "sub/../cat.png",
            "link.png",
            "loop/cat.png",
            "twin.png",
        ] {
            let path = root.join(other);
            let message = png(&path).check(&inputs).unwrap_err().to_string();
            assert!(message.contains("--out") && message.contains("IMAGE"));
            assert!(message.contains(other), "{message}");
        }
        for free in ["dog.png", "sub/cat.png", "missing/cat.png"] {
            png(&root.join(free)).check(&inputs).unwrap();
        }
    }

    #[test]
    fn files_that_are_not_there_yet_are_one_when_their_folder_and_name_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("sub")).unwrap();
        symlink(root.join("sub"), root.join("link")).unwrap();
        assert!(same_file(&root.join("sub/a"), &root.join("link/a")));
        assert!(!same_file(&root.join("sub/a"), &root.join("a")));
        assert!(!same_file(&root.join("sub/a"), &root.join("sub/b")));
    }

    #[test]
    fn a_name_must_say_what_the_file_is() {
        for right in ["a.png", "a.PNG", "a.jpg.png"] {
            png(Path::new(right)).check(&[]).unwrap();
        }
        for wrong in ["a.jpg", "a", ".png", "a.png.gz", "png", "/dev/null"] {
            let message = png(Path::new(wrong)).check(&[]).unwrap_err().to_string();
            let expected = format!("--out: expected a name that ends in .png, got {wrong}");
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_folder_or_a_device_is_no_place_for_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, null) = (folder.path().join("a.png"), folder.path().join("null.png"));
        fs::create_dir(&inner).unwrap();
        symlink("/dev/null", &null).unwrap();
        for path in [inner, null] {
            let error = png(&path).check(&[]).unwrap_err();
            assert!(matches!(error, OutputError::NotAFile { .. }), "{error}");
        }
    }
}
