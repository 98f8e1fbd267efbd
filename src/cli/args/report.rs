//! The options of `report`.

use std::path::PathBuf;

use clap::Args;

use super::checkpoint::CheckpointArgs;
use crate::cli::options::NamedOptions;

#[derive(Args, Debug)]
pub struct ReportArgs {
    // Before the options, which are no longer among the matches once they are read.
    #[command(flatten)]
    pub named: NamedOptions,

    /// The folder of a run, as with --checkpoint; of several, their curves, results and settings are compared
    #[arg(value_name = "RUN", conflicts_with = "checkpoint")]
    pub runs: Vec<PathBuf>,

    #[command(flatten)]
    pub from: CheckpointArgs,

    /// Where to write the page [default: report.html in the run's folder; of several runs, comparison.html]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}
