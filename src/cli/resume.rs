//! What a run needs to resume, from whatever is left in its folder.
//!
//! The settings are in `config.toml`, and in each checkpoint too, which is used if the file is lost or damaged.
//! A damaged file is kept under another name, and a new one is written.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::Table;

use crate::cli::config_error::ConfigError;
use crate::cli::config_file;
use crate::run::checkpoint::{self, CheckpointError};
use crate::run::history::History;
use crate::run::run_dir::RunDir;
use crate::system::files;

/// The settings of the run in `run_dir`.
pub fn settings(run_dir: &RunDir) -> Result<Table, ConfigError> {
    let path = run_dir.config();
    let fault = match config_file::read_saved(&path) {
        Ok(settings) => return Ok(settings),
        Err(fault) => fault,
    };
    match checkpoint::newest_info(&run_dir.checkpoints()) {
        Ok(info) if info.config.is_empty() => Err(fault),
        Ok(info) => config_file::parse_saved(&path, &info.config),
        Err(CheckpointError::None { .. }) => Err(ConfigError::NothingToResume {
            folder: run_dir.root().to_owned(),
        }),
        Err(error) => Err(ConfigError::NothingWhole {
            folder: run_dir.root().to_owned(),
            config: fault.to_string(),
            checkpoint: error.to_string(),
        }),
    }
}

/// Restores a lost or damaged `config.toml` from the newest checkpoint.
pub fn mend_config(run_dir: &RunDir) -> Result<()> {
    let path = run_dir.config();
    let Err(fault) = config_file::read_saved(&path) else {
        return Ok(());
    };
    let info = checkpoint::newest_info(&run_dir.checkpoints())?;
    log::warn!("{}", fault.to_string().trim_end());
    log::warn!("the settings in the newest checkpoint are used instead");
    set_aside(&path)?;
    Ok(files::write_text(&path, &info.config)?)
}

/// The history of a run after `epochs` epochs: all rows that can still be read.
pub fn history(run_dir: &RunDir, epochs: usize) -> Result<History> {
    let path = run_dir.history();
    let (history, fault) = History::salvage(&path);
    if let Some(fault) = fault {
        log::warn!("{fault}. The rows before that are kept");
        set_aside(&path)?;
        history.save()?;
    }
    let kept = history.records().iter().filter(|row| row.epoch < epochs);
    let lost = epochs - kept.count();
    if lost > 0 {
        log::warn!(
            "{} lacks the rows of {lost} of the {epochs} epochs so far. The weights are intact, so the run \
             continues; train.log and events/ still have the figures of these epochs",
            path.display()
        );
    }
    Ok(history)
}

/// Renames the damaged file at `path`, if there is one, to a name that is not taken.
fn set_aside(path: &Path) -> Result<()> {
    let taken = |path: &PathBuf| path.symlink_metadata().is_ok();
    let mut names = (1..).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(".damaged");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    });
    let free = names.find(|name| !taken(name));
    let free = free.context("every name for a damaged file is taken")?;
    match std::fs::rename(path, &free) {
        Ok(()) => log::warn!("the damaged file is kept as {}", free.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let message = format!("cannot rename {} to {}", path.display(), free.display());
            return Err(error).context(message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_that_was_kept_before_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        for content in ["first", "second", "third"] {
            std::fs::write(&path, content).unwrap();
            set_aside(&path).unwrap();
        }
        for (name, content) in [
            ("history.csv.damaged", "first"),
            ("history.csv.damaged-2", "second"),
            ("history.csv.damaged-3", "third"),
        ] {
            let kept = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(kept, content);
        }
        assert!(!path.exists());
    }
}
