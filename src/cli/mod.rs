//! The command line: options, settings, commands and exit codes.
//!
//! ```text
//!  settings (the list) ─► args (clap) ─► config (flag > environment > file > preset) ─► commands ─► exit code
//! ```

pub mod args;
pub mod arguments;
pub mod commands;
pub mod config;
mod config_checks;
mod config_error;
pub mod config_file;
mod config_layers;
mod entry;
pub mod exit;
mod options;
pub mod outputs;
pub mod resume;
pub mod settings;
mod spelling;
mod tilde;
pub mod variables;

pub use entry::resnet_xla_main;
