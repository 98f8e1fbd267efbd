//! Expands `~` at the start of a path: a shell does that only in some places of a command line, and never in a
//! variable or a file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `path` with a leading `~` replaced by the home folder `home`.
///
/// # Errors
/// A path such as `~user/x`, or a `~` without a usable home folder; the message says what to write instead.
pub fn expand(path: PathBuf, home: Option<OsString>) -> Result<PathBuf, String> {
    if let Ok(rest) = path.strip_prefix("~") {
        let home = home.map(PathBuf::from).filter(|home| home.is_absolute());
        let home = home.ok_or(
            "`~` is the home folder, and HOME does not name it; write the whole path, or ./~ for a file called ~",
        )?;
        return Ok(if rest == Path::new("") {
            home
        } else {
            home.join(rest)
        });
    }
    if path.as_os_str().as_encoded_bytes().starts_with(b"~") {
        return Err(format!(
            "`~` before a name is not expanded here; write the whole path, or ./{} for a file of that name",
            path.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_home(path: &str) -> Result<PathBuf, String> {
        expand(path.into(), Some("/home/ada".into()))
    }

    #[test]
    fn a_leading_tilde_is_the_home_folder_and_no_other_is() {
        for (path, expected) in [
            ("~", "/home/ada"),
            ("~/", "/home/ada"),
            ("~/x/~", "/home/ada/x/~"),
            ("./~", "./~"),
            ("x~/~y", "x~/~y"),
            ("/~", "/~"),
        ] {
            let found = at_home(path).unwrap();
            assert_eq!(found.as_os_str(), expected, "{path}");
        }
    }

    #[test]
    fn another_users_folder_and_a_missing_home_are_refused_with_advice() {
        assert!(at_home("~bob/x").unwrap_err().contains("./~bob/x"));
        for home in [None, Some("".into()), Some("ada".into())] {
            let refused = expand("~/x".into(), home).unwrap_err();
            assert!(refused.contains("HOME"), "{refused}");
        }
    }
}
