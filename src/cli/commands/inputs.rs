//! The files that commands on a checkpoint read.

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

/// The file that `--checkpoint` stands for, and of a run's folder all files of the run.
pub fn of_checkpoint(path: &Path) -> Vec<Named> {
    // What cannot be read is for the command to say.
    let checkpoint = checkpoint::resolve(path).ok();
    let run = RunDir::of(path).files().unwrap_or_default();
    let files = checkpoint.into_iter().chain(run);
    files.map(|path| Named::new("--checkpoint", path)).collect()
}
