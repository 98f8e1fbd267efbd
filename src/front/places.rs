//! Where the program's library and the XLA runtime are, or should be.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libresnet_xla.so";

pub struct Places {
    /// Where the program's library may be, in order of preference.
    libraries: Vec<PathBuf>,
    /// The XLA runtime's folder at build time, and the files that were in it.
    runtime: PathBuf,
    runtime_files: Vec<String>,
}

impl Places {
    pub fn of_this_program() -> Self {
        let program = env::current_exe().unwrap_or_default();
        Self::new(
            program.parent().unwrap_or(Path::new("")),
            Path::new(env!("RESNET_XLA_BUILT_IN")),
            Path::new(env!("RESNET_XLA_RUNTIME_DIR")),
            env!("RESNET_XLA_RUNTIME_FILES").split('/'),
        )
    }

    /// For a program in `folder` that was built in `built_in`, with the XLA runtime in `runtime`.
    fn new<'a>(
        folder: &Path,
        built_in: &Path,
        runtime: &Path,
        runtime_files: impl Iterator<Item = &'a str>,
    ) -> Self {
        // Cargo always builds the library in `deps`, and copies it next to the program only in some commands.
        let folders = [&folder.join("deps"), folder, built_in];
        Self {
            libraries: folders.map(|folder| folder.join(LIBRARY)).to_vec(),
            runtime: runtime.to_owned(),
            runtime_files: runtime_files.map(str::to_owned).collect(),
        }
    }

    /// The program's library.
    pub fn library(&self) -> Option<&Path> {
        let found = self.libraries.iter().find(|path| path.is_file());
        found.map(PathBuf::as_path)
    }

    /// What to do when there is no library.
    pub fn no_library(&self) -> String {
        let places = self.libraries.iter().map(|path| path.display().to_string());
        let places: Vec<_> = places.collect();
        format!(
            "there is no {LIBRARY}, which contains the program; looked for {}. Copy it from where the program was \
             built (target/release after `cargo build --release`) into the program's folder",
            places.join(", ")
        )
    }

    /// Why the library cannot be loaded, given the system's `error`, and what to do.
    pub fn why_not(&self, error: &str) -> String {
        let files = self.runtime_files.iter();
        let gone: Vec<_> = files.filter(|file| !self.has(file)).cloned().collect();
        if gone.is_empty() {
            return format!(
                "the program's library cannot be loaded: {error}. Unset LD_PRELOAD and LD_LIBRARY_PATH if they are set, or \
                 run `./setup` and `cargo build --release` again"
            );
        }
        format!(
            "the XLA runtime that the program was built with is no longer in {}: no {}. Run `./setup`, then \
             `cargo build --release`",
            self.runtime.display(),
            gone.join(", ")
        )
    }

    /// Lists the files, each as found or not there.
    pub fn report(&self, out: &mut impl Write) -> io::Result<()> {
        let state = |found| if found { "found" } else { "not there" };
        for path in &self.libraries {
            writeln!(
                out,
                "library     {}: {}",
                path.display(),
                state(path.is_file())
            )?;
        }
        writeln!(out, "runtime     {}", self.runtime.display())?;
        for file in &self.runtime_files {
            writeln!(out, "            {file}: {}", state(self.has(file)))?;
        }
        Ok(())
    }

    fn has(&self, runtime_file: &str) -> bool {
        self.runtime.join(runtime_file).is_file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_that_cargo_made_last_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        let own = folder.path().join("own");
        let places = || Places::new(&own, &built, Path::new("/no runtime"), [].into_iter());
        assert_eq!(places().library(), None);
        for folder in [&built, &own, &own.join("deps")] {
            std::fs::create_dir_all(folder).unwrap();
            let library = folder.join(LIBRARY);
            std::fs::write(&library, "").unwrap();
            assert_eq!(places().library(), Some(library.as_path()));
        }
    }
}
