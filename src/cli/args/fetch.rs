//! The options of `fetch`.

use clap::Args;

use crate::cli::options::DataArgs;

#[derive(Args, Debug)]
pub struct FetchArgs {
    #[command(flatten)]
    pub data: DataArgs,
}
