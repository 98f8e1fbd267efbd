//! The options of `summary`.

use clap::Args;

use super::network::NetworkArgs;

#[derive(Args, Debug)]
pub struct SummaryArgs {
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
