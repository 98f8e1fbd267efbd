//! The folder of a run: which file lies where, and who may write into it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    files,
    lock::{Lock, LockError},
    tensorboard,
};

/// Where a run keeps its settings.
pub const CONFIG: &str = "config.toml";
const ENV: &str = "env.json";
const TRAIN_LOG: &str = "train.log";
const HISTORY: &str = "history.csv";
const RESULT: &str = "result.json";
const REPORT: &str = "report.html";
const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";
const PLOTS: &str = "plots";
const EVENTS: &str = "events";
const ACCURACY_PLOT: &str = "accuracy";
const LOSS_PLOT: &str = "loss";
/// Endings of each plot.
const PLOT_ENDINGS: [&str; 2] = [".png", ".svg"];

/// What to do with a folder that holds a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunDirMode {
    /// Refuse it.
    Fresh,
    /// Remove the run's files first.
    Overwrite,
    /// Leave everything as it is, to go on with it.
    Resume,
}

/// A folder that cannot take the run.
#[derive(Debug, Error)]
pub enum RunDirError {
    #[error(
        "{} holds a run already (found {found}): go on with --resume, start over with --overwrite, \
         or choose another folder with --out-dir",
        path.display()
    )]
    HoldsRun { path: PathBuf, found: String },
    #[error(
        "expected a folder at {}, found something else: choose another one with --out-dir",
        path.display()
    )]
    NotAFolder { path: PathBuf },
    #[error(
        "{} is in use by process {pid}: wait for it, stop it, or choose another folder with --out-dir",
        path.display()
    )]
    InUse { path: PathBuf, pid: String },
    #[error(
        "--overwrite does not follow the symbolic link {}: remove the link, or choose another folder with --out-dir",
        path.display()
    )]
    Link { path: PathBuf },
    #[error(
        "cannot use {} for the run: {source}; choose a folder that can be written to with --out-dir",
        path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
}

/// A run's folder: there, writable and this process's own, or only read from. Its methods name the paths of the files in it.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// `None` where the folder is only read from.
    _lock: Option<Lock>,
}

impl RunDir {
    /// Makes the folder `root` ready for a run, with its sub-folders.
    ///
    /// A folder counts as holding a run when any file that a run writes is in it. [`RunDirMode::Overwrite`] removes
    /// those files by name; anything else in the folder stays.
    pub fn create(root: &Path, mode: RunDirMode) -> Result<Self, RunDirError> {
        make_folder(root)?;
        let run_dir = Self {
            root: root.to_owned(),
            _lock: Some(lock(root)?),
        };
        match mode {
            RunDirMode::Fresh => run_dir.refuse_a_run()?,
            RunDirMode::Overwrite => run_dir.remove_run()?,
            RunDirMode::Resume => {}
        }
        check_writable(root)?;
        for name in [CHECKPOINTS, PLOTS, EVENTS] {
            let folder = root.join(name);
            make_folder(&folder)?;
            check_writable(&folder)?;
        }
        Ok(run_dir)
    }

    /// The folder of a run that is there already, to read from.
    pub fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            _lock: None,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    pub fn env(&self) -> PathBuf {
        self.root.join(ENV)
    }

    pub fn train_log(&self) -> PathBuf {
        self.root.join(TRAIN_LOG)
    }

    pub fn history(&self) -> PathBuf {
        self.root.join(HISTORY)
    }

    pub fn result(&self) -> PathBuf {
        self.root.join(RESULT)
    }

    pub fn report(&self) -> PathBuf {
        self.root.join(REPORT)
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    pub fn plots(&self) -> PathBuf {
        self.root.join(PLOTS)
    }

    /// Without its ending: there is one of each kind.
    pub fn accuracy_plot(&self) -> PathBuf {
        self.plots().join(ACCURACY_PLOT)
    }

    /// Without its ending: there is one of each kind.
    pub fn loss_plot(&self) -> PathBuf {
        self.plots().join(LOSS_PLOT)
    }

    pub fn events(&self) -> PathBuf {
        self.root.join(EVENTS)
    }

    fn refuse_a_run(&self) -> Result<(), RunDirError> {
        for folder in ["", CHECKPOINTS, PLOTS, EVENTS] {
            for name in names_in(&self.root.join(folder))? {
                if is_run_file(folder, &name) {
                    return Err(RunDirError::HoldsRun {
                        path: self.root.clone(),
                        found: Path::new(folder).join(name).display().to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn remove_run(&self) -> Result<(), RunDirError> {
        for folder in [CHECKPOINTS, PLOTS, EVENTS] {
            let path = self.root.join(folder);
            if path.is_symlink() {
                return Err(RunDirError::Link { path });
            }
        }
        // The top level goes last: if removing stops half-way, config.toml still says that a run is there.
        for folder in [CHECKPOINTS, PLOTS, EVENTS, ""] {
            for name in names_in(&self.root.join(folder))? {
                let target = files::temporary_target(&name).unwrap_or(&name);
                if is_run_file(folder, target) {
                    let path = self.root.join(folder).join(name);
                    fs::remove_file(&path).map_err(|source| unusable(&path, source))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a run writes a file called `name` into its sub-folder `folder` ("" for the run's folder itself).
fn is_run_file(folder: &str, name: &str) -> bool {
    match folder {
        "" => [CONFIG, ENV, TRAIN_LOG, HISTORY, RESULT, REPORT].contains(&name),
        CHECKPOINTS => name
            .strip_prefix("step-")
            .and_then(|rest| rest.strip_suffix(".safetensors"))
            .is_some_and(|step| step.parse::<u64>().is_ok()),
        PLOTS => PLOT_ENDINGS
            .iter()
            .filter_map(|ending| name.strip_suffix(ending))
            .any(|stem| [ACCURACY_PLOT, LOSS_PLOT].contains(&stem)),
        EVENTS => name.starts_with(tensorboard::FILE_PREFIX),
        _ => false,
    }
}

/// The names of the entries of a folder; none when there is no such folder. No run writes a name that is not UTF-8.
fn names_in(folder: &Path) -> Result<Vec<String>, RunDirError> {
    if folder.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    if !folder.is_dir() {
        return Err(RunDirError::NotAFolder {
            path: folder.to_owned(),
        });
    }
    let names = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().into_string().ok()))
            .filter_map(Result::transpose)
            .collect()
    });
    names.map_err(|source| unusable(folder, source))
}

fn make_folder(path: &Path) -> Result<(), RunDirError> {
    if path.symlink_metadata().is_ok() && !path.is_dir() {
        return Err(RunDirError::NotAFolder {
            path: path.to_owned(),
        });
    }
    fs::create_dir_all(path).map_err(|source| unusable(path, source))
}

fn check_writable(folder: &Path) -> Result<(), RunDirError> {
    tempfile::tempfile_in(folder)
        .map(drop)
        .map_err(|source| unusable(folder, source))
}

fn lock(root: &Path) -> Result<Lock, RunDirError> {
    Lock::take(&root.join(LOCK)).map_err(|error| match error {
        LockError::Held { pid } => RunDirError::InUse {
            path: root.to_owned(),
            pid,
        },
        LockError::Io(source) => unusable(&root.join(LOCK), source),
    })
}

fn unusable(path: &Path, source: io::Error) -> RunDirError {
    RunDirError::Unusable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// All files under a folder but the lock, by their relative paths, sorted.
    fn files_under(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        found.retain(|name| name != LOCK);
        found.sort();
        found
    }

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    const A_RUN: [&str; 10] = [
        "config.toml",
        "env.json",
        "train.log",
        "history.csv",
        "result.json",
        "report.html",
        "checkpoints/step-00000390.safetensors",
        "plots/accuracy.png",
        "plots/loss.svg",
        "events/events.out.tfevents.1700000000.host",
    ];

    #[test]
    fn a_new_folder_is_made_with_its_parents_and_sub_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("runs/quick");
        RunDir::create(&root, RunDirMode::Fresh).unwrap();
        for name in ["checkpoints", "plots", "events"] {
            assert!(root.join(name).is_dir(), "{name} is missing");
        }
        assert!(files_under(&root).is_empty());
    }

    #[test]
    fn an_empty_run_folder_may_be_used_again() {
        let folder = tempfile::tempdir().unwrap();
        RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
        RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
    }

    #[test]
    fn each_path_is_where_the_design_puts_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
        let paths = [
            (run.config(), "config.toml"),
            (run.env(), "env.json"),
            (run.train_log(), "train.log"),
            (run.history(), "history.csv"),
            (run.result(), "result.json"),
            (run.report(), "report.html"),
            (run.checkpoints(), "checkpoints"),
            (run.plots(), "plots"),
            (run.accuracy_plot(), "plots/accuracy"),
            (run.loss_plot(), "plots/loss"),
            (run.events(), "events"),
        ];
        for (path, expected) in paths {
            assert_eq!(path, folder.path().join(expected));
        }
    }

    #[test]
    fn a_folder_with_any_file_of_a_run_is_refused_and_left_as_it_was() {
        for name in A_RUN {
            let folder = tempfile::tempdir().unwrap();
            touch(folder.path(), &[name]);
            let error = RunDir::create(folder.path(), RunDirMode::Fresh).unwrap_err();
            let message = error.to_string();
            assert!(matches!(error, RunDirError::HoldsRun { .. }), "{message}");
            for word in [name, "--resume", "--overwrite", "--out-dir"] {
                assert!(message.contains(word), "no {word} in: {message}");
            }
            assert_eq!(files_under(folder.path()), [name]);
        }
    }

    #[test]
    fn resume_takes_the_folder_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), &A_RUN);
        RunDir::create(folder.path(), RunDirMode::Resume).unwrap();
        assert_eq!(files_under(folder.path()).len(), A_RUN.len());
    }

    #[test]
    fn overwrite_removes_the_files_of_a_run_and_nothing_else() {
        let foreign = [
            "checkpoints/notes/history.csv",
            "checkpoints/step-best.safetensors",
            "config.toml.bak",
            "events/readme.md",
            "notes.txt",
            "plots/history.csv",
        ];
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), &A_RUN);
        touch(folder.path(), &foreign);
        touch(
            folder.path(),
            &[
                ".history.csv.Ab12Cd.tmp",
                "checkpoints/.step-00000780.safetensors.Ab12Cd.tmp",
            ],
        );
        RunDir::create(folder.path(), RunDirMode::Overwrite).unwrap();
        assert_eq!(files_under(folder.path()), foreign);
    }

    #[test]
    fn overwrite_does_not_reach_through_symbolic_links() {
        let outside = tempfile::tempdir().unwrap();
        touch(
            outside.path(),
            &["step-00000390.safetensors", "history.csv"],
        );
        let folder = tempfile::tempdir().unwrap();
        symlink(
            outside.path().join("history.csv"),
            folder.path().join("history.csv"),
        )
        .unwrap();
        RunDir::create(folder.path(), RunDirMode::Overwrite).unwrap();
        assert!(!folder.path().join("history.csv").is_symlink());

        fs::remove_dir(folder.path().join("checkpoints")).unwrap();
        symlink(outside.path(), folder.path().join("checkpoints")).unwrap();
        let error = RunDir::create(folder.path(), RunDirMode::Overwrite).unwrap_err();
        assert!(matches!(error, RunDirError::Link { .. }), "{error}");
        let untouched = ["history.csv", "step-00000390.safetensors"];
        assert_eq!(files_under(outside.path()), untouched);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_reported() {
        for name in ["run", "run/plots"] {
            for mode in [RunDirMode::Fresh, RunDirMode::Overwrite, RunDirMode::Resume] {
                let folder = tempfile::tempdir().unwrap();
                touch(folder.path(), &[name]);
                let error = RunDir::create(&folder.path().join("run"), mode).unwrap_err();
                assert!(matches!(error, RunDirError::NotAFolder { .. }), "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_reported_with_its_path() {
        // No user, root included, can make a folder there.
        let path = Path::new("/proc/resnet-xla-run");
        let error = RunDir::create(path, RunDirMode::Fresh).unwrap_err();
        assert!(matches!(error, RunDirError::Unusable { .. }), "{error}");
        assert!(
            error.to_string().contains("/proc/resnet-xla-run"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_reported_with_its_path() {
        // The process's own folder in /proc is there, and no file can be made in it.
        let path = Path::new("/proc/self/task");
        let error = RunDir::create(path, RunDirMode::Resume).unwrap_err();
        assert!(matches!(error, RunDirError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("/proc/self/task"), "{error}");
    }
}
