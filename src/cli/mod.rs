//! The command line: options, settings, commands and exit codes.
//!
//! ```text
//!  args (clap) ─► config (flags over environment over file over preset) ─► commands ─► exit code
//! ```

pub mod args;
pub mod arguments;
pub mod commands;
pub mod config;
mod entry;
pub mod exit;
pub mod outputs;
pub mod resume;
mod spelling;
mod tilde;
pub mod variables;
