//! The folder of a run: where each file is, and who may write.

mod state;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf, absolute},
};

use thiserror::Error;

pub use state::RunState;

use crate::data::DECODED_IMAGES;
use crate::run::checkpoint;
use crate::system::files::{self, Disk, Storage};
use crate::system::lock::{Lock, LockError};

const CONFIG: &str = "config.toml";
const ENV: &str = "env.json";
const TRAIN_LOG: &str = "train.log";
const HISTORY: &str = "history.csv";
const RESULT: &str = "result.json";
const REPORT: &str = "report.html";
const PROFILE: &str = "profile.json";
const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";
const PLOTS: &str = "plots";
const EVENTS: &str = "events";
/// How the names of event files begin; TensorBoard looks for it.
pub const EVENT_FILE_PREFIX: &str = "events.out.tfevents.";
/// Where TensorBoard looks for profiles: below its folder of events, those of a run in a folder of its own.
const DEVICE_PROFILES: &str = "events/plugins/profile/steps";
const DEVICE_PROFILE_ENDING: &str = ".xplane.pb";
/// While this file of TensorBoard's profile plugin is beside a profile, the plugin shows what it once made of it.
const SHOWN_PROFILE: &str = "cache_version.txt";
const ACCURACY_PLOT: &str = "accuracy";
const LOSS_PLOT: &str = "loss";
/// The folders that have files of a run besides its own.
const SUB_FOLDERS: [&str; 4] = [CHECKPOINTS, PLOTS, EVENTS, DEVICE_PROFILES];
/// Endings of each plot.
const PLOT_ENDINGS: [&str; 2] = [".png", ".svg"];

/// What to do with a folder that already holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunDirMode {
    /// Refuse it.
    Fresh,
    /// Remove the run's files first.
    Overwrite,
    /// Leave everything as it is, and go on with the run.
    Resume,
}

/// Why a folder cannot be used for the run.
#[derive(Debug, Error)]
pub enum RunDirError {
    #[error(
        "{} holds a run already (found {found}): {}",
        path.display(), advice(*checkpoints)
    )]
    HoldsRun {
        path: PathBuf,
        found: String,
        checkpoints: usize,
    },
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
        "{} is a symbolic link, which no run follows: remove the link, or choose another folder with --out-dir (which itself \
         may be a link)",
        path.display()
    )]
    Link { path: PathBuf },
    #[error(
        "there is no folder {}: train first, or name the folder that has the runs",
        path.display()
    )]
    NoRuns { path: PathBuf },
    #[error(
        "{} is not the folder of a run: it has no config.toml; `runs` lists those that are",
        path.display()
    )]
    NotARun { path: PathBuf },
    #[error(
        "cannot use {} for the run: {reason}; choose a folder that can be written to with --out-dir",
        path.display()
    )]
    Unusable { path: PathBuf, reason: io::Error },
}

/// What to do about a folder that holds a run. No advice may lead to the loss of checkpoints.
fn advice(checkpoints: usize) -> String {
    match checkpoints {
        0 => "it has no checkpoint to go on from. Choose another folder with --out-dir; --overwrite deletes \
              these files first"
            .to_owned(),
        some => format!(
            "go on with --resume, or choose another folder with --out-dir; --overwrite deletes the run and its \
             checkpoints ({some}) first"
        ),
    }
}

/// A run's folder: either writable and owned by this process, or only read from. Its methods return the paths of its
/// files.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// `None` if the folder is only read from.
    _lock: Option<Lock>,
}

impl RunDir {
    /// Refuses a folder `root` that cannot be used for a run, as far as that shows without creating anything.
    pub fn check(root: &Path, mode: RunDirMode) -> Result<(), RunDirError> {
        let run_dir = Self::of(root);
        // Not as `root.join("")`: with a slash at its end a file looks like nothing.
        names_in(root)?;
        for folder in SUB_FOLDERS {
            names_in(&root.join(folder))?;
        }
        run_dir.refuse_links()?;
        let _lock = match root.join(LOCK).exists() {
            true => Some(lock(root)?),
            false => None,
        };
        match mode {
            RunDirMode::Fresh => run_dir.refuse_a_run(),
            RunDirMode::Overwrite | RunDirMode::Resume => Ok(()),
        }
    }

    /// Makes the folder `root` ready for a run, with its sub-folders.
    ///
    /// Removes what a killed process left half-written. A folder holds a run if it has any file that a run
    /// writes. [`RunDirMode::Overwrite`] removes those files by name; everything else in the folder stays.
    pub fn create(root: &Path, mode: RunDirMode) -> Result<Self, RunDirError> {
        make_folder(root)?;
        let run_dir = Self {
            root: root.to_owned(),
            _lock: Some(lock(root)?),
        };
        run_dir.refuse_links()?;
        match mode {
            RunDirMode::Fresh => run_dir.refuse_a_run()?,
            RunDirMode::Overwrite => run_dir.remove(|_| true)?,
            RunDirMode::Resume => {}
        }
        run_dir.remove(|name| files::temporary_target(name).is_some())?;
        check_writable(root)?;
        for name in [CHECKPOINTS, PLOTS, EVENTS] {
            let folder = root.join(name);
            make_folder(&folder)?;
            check_writable(&folder)?;
        }
        Ok(run_dir)
    }

    /// The folder of an existing run, to read from.
    pub fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            _lock: None,
        }
    }

    /// The folder of the run that `path` belongs to: the run's folder itself, its folder of checkpoints, or a file in one
    /// of them.
    pub fn around(path: &Path) -> Option<Self> {
        let is_run = |folder: &Path| folder.join(CONFIG).is_file();
        if is_run(path) {
            return Some(Self::of(path));
        }
        // A bare file name has no parent.
        let path = path.canonicalize().ok()?;
        let folder = if path.is_dir() { &path } else { path.parent()? };
        let run = match folder.file_name() {
            Some(name) if name == CHECKPOINTS => folder.parent()?,
            _ => folder,
        };
        is_run(run).then(|| Self::of(run))
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

    /// What the host did in the steps that were recorded.
    pub fn profile(&self) -> PathBuf {
        self.root.join(PROFILE)
    }

    /// The folder of what the devices did in those steps; it need not be there.
    pub fn device_profiles(&self) -> PathBuf {
        self.root.join(DEVICE_PROFILES)
    }

    /// The file in it that is of the devices of `host`.
    pub fn device_profile(&self, host: &str) -> PathBuf {
        self.device_profiles()
            .join(format!("{host}{DEVICE_PROFILE_ENDING}"))
    }

    /// A file beside it that another program keeps: without it TensorBoard reads profiles anew.
    pub fn shown_profile(&self) -> PathBuf {
        self.device_profiles().join(SHOWN_PROFILE)
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    pub fn plots(&self) -> PathBuf {
        self.root.join(PLOTS)
    }

    /// Without an ending, as there is one file for each kind.
    pub fn accuracy_plot(&self) -> PathBuf {
        self.plots().join(ACCURACY_PLOT)
    }

    /// Without an ending, as there is one file for each kind.
    pub fn loss_plot(&self) -> PathBuf {
        self.plots().join(LOSS_PLOT)
    }

    pub fn events(&self) -> PathBuf {
        self.root.join(EVENTS)
    }

    /// The folder for decoded images that are too many for memory, next to this one, so that all runs there share them.
    /// `None` if nothing can be next to it.
    pub fn decoded_images(&self) -> Option<PathBuf> {
        // A link may lead to it. It need not be there yet.
        let root = (self.root.canonicalize()).or_else(|_| absolute(&self.root));
        Some(root.ok()?.parent()?.join(DECODED_IMAGES))
    }

    fn refuse_a_run(&self) -> Result<(), RunDirError> {
        for folder in [""].into_iter().chain(SUB_FOLDERS) {
            for name in names_in(&self.root.join(folder))? {
                // The log of a failed start is appended to, not replaced.
                if is_run_file(folder, &name) && name != TRAIN_LOG {
                    return Err(RunDirError::HoldsRun {
                        path: self.root.clone(),
                        found: Path::new(folder).join(name).display().to_string(),
                        checkpoints: checkpoint::count(&self.checkpoints()),
                    });
                }
            }
        }
        Ok(())
    }

    /// A link in place of a sub-folder, or of one on the way to it, would make the run write somewhere else.
    fn refuse_links(&self) -> Result<(), RunDirError> {
        for folder in SUB_FOLDERS {
            for part in Path::new(folder).ancestors() {
                // The last one is the root itself, which may be a link.
                if part == Path::new("") {
                    break;
                }
                let path = self.root.join(part);
                if path.is_symlink() {
                    return Err(RunDirError::Link { path });
                }
            }
        }
        Ok(())
    }

    /// Removes those of the run's files, half-written ones included, whose name is `unwanted`.
    fn remove(&self, unwanted: fn(&str) -> bool) -> Result<(), RunDirError> {
        for path in self.files()? {
            if path
                .file_name()
                .and_then(OsStr::to_str)
                .is_some_and(unwanted)
            {
                fs::remove_file(&path).map_err(|reason| unusable(&path, reason))?;
            }
        }
        Ok(())
    }

    /// The run's existing files, half-written ones included.
    pub fn files(&self) -> Result<Vec<PathBuf>, RunDirError> {
        let mut files = Vec::new();
        // The top level comes last: if the removal stops half-way, config.toml still shows that there is a run.
        for folder in SUB_FOLDERS.into_iter().chain([""]) {
            for name in names_in(&self.root.join(folder))? {
                let target = files::temporary_target(&name).unwrap_or(&name);
                if is_run_file(folder, target) {
                    files.push(self.root.join(folder).join(name));
                }
            }
        }
        Ok(files)
    }
}

/// Whether a run writes a file called `name` into its sub-folder `folder` ("" for the run's folder itself).
fn is_run_file(folder: &str, name: &str) -> bool {
    match folder {
        "" => [CONFIG, ENV, TRAIN_LOG, HISTORY, RESULT, REPORT, PROFILE].contains(&name),
        CHECKPOINTS => name
            .strip_prefix("step-")
            .and_then(|rest| rest.strip_suffix(".safetensors"))
            .is_some_and(|step| step.parse::<u64>().is_ok()),
        PLOTS => PLOT_ENDINGS
            .iter()
            .filter_map(|ending| name.strip_suffix(ending))
            .any(|stem| [ACCURACY_PLOT, LOSS_PLOT].contains(&stem)),
        EVENTS => name.starts_with(EVENT_FILE_PREFIX),
        DEVICE_PROFILES => name.ends_with(DEVICE_PROFILE_ENDING),
        _ => false,
    }
}

/// The names of the entries of a folder; none if there is no such folder. Names that are not UTF-8 are left out, as
/// no run writes them.
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
    names.map_err(|reason| unusable(folder, reason))
}

fn make_folder(path: &Path) -> Result<(), RunDirError> {
    if path.symlink_metadata().is_ok() && !path.is_dir() {
        return Err(RunDirError::NotAFolder {
            path: path.to_owned(),
        });
    }
    fs::create_dir_all(path).map_err(|reason| unusable(path, reason))
}

fn check_writable(folder: &Path) -> Result<(), RunDirError> {
    Disk.create_beside(&folder.join(CONFIG))
        .map(drop)
        .map_err(|reason| unusable(folder, reason))
}

fn lock(root: &Path) -> Result<Lock, RunDirError> {
    Lock::take(&root.join(LOCK)).map_err(|error| match error {
        LockError::Held { pid } => RunDirError::InUse {
            path: root.to_owned(),
            pid,
        },
        LockError::Io(reason) => unusable(&root.join(LOCK), reason),
    })
}

fn unusable(path: &Path, reason: io::Error) -> RunDirError {
    RunDirError::Unusable {
        path: path.to_owned(),
        reason,
    }
}
