//! A checkout with nothing in it but `setup` and what it reads, and a `PATH` of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::executable;

/// What `setup` and the pretended download call, besides `c++` and `python3`.
const TOOLS: &str = "basename bash cat cp cut df dirname du env find flock getconf grep head ln mkdir mktemp mv \
    readlink rm sha256sum sleep sort touch uname xargs sed";

/// A checkout with nothing but `setup` and what it reads.
pub struct Checkout {
    pub folder: TempDir,
}

impl Checkout {
    pub fn new() -> Self {
        Self::in_folder_named("checkout")
    }

    /// A checkout in a folder whose name begins with `name`.
    pub fn in_folder_named(name: &str) -> Self {
        let checkout = Self {
            folder: TempDir::with_prefix(name).unwrap(),
        };
        // Another process copies what will be run, for the reason that `executable::write` gives.
        let copied = Command::new("cp")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["-r", "--parents", "setup", "scripts/pip_settings.py"])
            .arg("xla_runtime")
            .arg(checkout.folder.path())
            .status();
        assert!(copied.unwrap().success());
        fs::create_dir(checkout.path("bin")).unwrap();
        for tool in TOOLS.split_whitespace().chain(["c++", "python3"]) {
            symlink(find_in_path(tool), checkout.path("bin").join(tool)).unwrap();
        }
        checkout
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn remove_tool(&self, name: &str) {
        fs::remove_file(self.path("bin").join(name)).unwrap();
    }

    pub fn replace_tool(&self, name: &str, script: &str) {
        self.remove_tool(name);
        let tool = self.path("bin").join(name);
        executable::write(&tool, format!("#!/bin/sh\n{script}\n").as_bytes());
    }

    /// Makes `python3 -m MODULE` run `script`.
    pub fn replace_python_module(&self, module: &str, script: &str) {
        let python = find_in_path("python3");
        let python = python.display();
        self.replace_tool(
            "python3",
            &format!("case \"$*\" in *'-m {module} '*) {script} ;; esac\nexec '{python}' \"$@\""),
        );
    }

    /// `setup` with only the tools of this checkout and with none of this process's variables.
    pub fn setup(&self) -> Command {
        let mut command = Command::new(self.path("setup"));
        command
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("RESNET_XLA_CACHE", self.path("cache"));
        command
    }

    /// `setup` for a user with an xla_extension folder of their own: it needs libclang, a small wheel, and no more.
    pub fn setup_libclang_only(&self) -> Command {
        let extension = self.path("extension");
        fs::create_dir_all(extension.join("include")).unwrap();
        fs::create_dir_all(extension.join("lib")).unwrap();
        fs::write(extension.join("lib/libxla_extension.so"), "").unwrap();
        let mut command = self.setup();
        command.env("XLA_EXTENSION_DIR", extension);
        command
    }

    pub fn work_folders_left(&self) -> usize {
        let entries = fs::read_dir(self.path("cache")).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("partial.")
            })
            .count()
    }

    pub fn linked_libclang(&self) -> String {
        fs::read_to_string(self.path(".xla/libclang/lib/libclang.so")).unwrap()
    }
}

pub fn find_in_path(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("these tests need {tool} in PATH"))
}
