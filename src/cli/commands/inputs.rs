//! The files that are read by commands that take a checkpoint.

use std::path::Path;

use crate::cli::args::CheckpointArgs;
use crate::cli::outputs::Named;
use crate::run::checkpoint;
use crate::run::run_dir::RunDir;

/// The checkpoint and the plugin that `args` name.
pub fn of(args: &CheckpointArgs) -> Vec<Named> {
    let plugin = args.device.plugin.iter();
    let mut inputs = of_checkpoint(&args.checkpoint);
    inputs.extend(plugin.map(|path| Named::new("--plugin", path)));
    inputs
}

/// The file that `--checkpoint` refers to, and if it is in a run's folder, all files of that run.
pub fn of_checkpoint(path: &Path) -> Vec<Named> {
    // The command itself reports what cannot be read.
    let checkpoint = checkpoint::resolve(path).ok();
    let run = RunDir::of(path).files().unwrap_or_default();
    let files = checkpoint.into_iter().chain(run);
    files.map(|path| Named::new("--checkpoint", path)).collect()
}
