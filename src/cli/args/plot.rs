//! The options of `plot`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub struct PlotArgs {
    /// Folders of runs, or history.csv files
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Folder to write the plots to
    #[arg(long, default_value = "plots", value_name = "DIR")]
    pub out_dir: PathBuf,
}
