//! The options of `completions` and `man`.

use clap::Args;

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Shell to print completions for
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct ManArgs {
    /// Command to describe [default: the program]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}
