//! The options of `runs`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub struct RunsArgs {
    /// The folder that has the runs, or folders with runs
    #[arg(default_value = "runs", value_name = "DIR")]
    pub folder: PathBuf,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
