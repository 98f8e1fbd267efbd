//! The folders of runs in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::run_dir::{RunDir, RunDirError, RunState};

/// Folders are looked into so deep: `runs/depths/20` is a run in the second.
const DEEPEST: usize = 4;

/// The runs in `folder` and in its folders, in order of their names; hidden folders and links to folders are not looked
/// into. `folder` may be a run itself.
///
/// # Errors
/// There is no such folder. One inside that cannot be read is left out, with a warning.
pub fn runs(folder: &Path) -> Result<Vec<RunDir>, RunDirError> {
    if !folder.is_dir() {
        return Err(RunDirError::NoRuns {
            path: folder.to_owned(),
        });
    }
    let mut runs = Vec::new();
    add(folder, DEEPEST, &mut runs);
    Ok(runs)
}

fn add(folder: &Path, deeper: usize, runs: &mut Vec<RunDir>) {
    let run = RunDir::of(folder);
    // A run that is about to begin has nothing but its lock.
    if has_run(&run) || matches!(run.state(), RunState::Running { .. }) {
        runs.push(run);
        return;
    }
    if deeper == 0 {
        return;
    }
    match folders_in(folder) {
        Ok(folders) => folders.iter().for_each(|path| add(path, deeper - 1, runs)),
        Err(error) => log::warn!("cannot read the folder {}: {error}", folder.display()),
    }
}

/// Whether the files of a run are there. Other programs have a `config.toml` too.
fn has_run(run: &RunDir) -> bool {
    let others = [run.env(), run.history(), run.checkpoints()];
    run.config().is_file() && others.iter().any(|path| path.exists())
}

/// The folders in `folder`, in order of their names, without hidden ones.
fn folders_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}
