//! Settings: every number in its range, every path, and every source they come from.

#[path = "../program/mod.rs"]
mod program;

mod defaults;
mod failed_starts;
mod not_utf8;
mod numbers;
mod options;
mod ranges;
mod saved;
mod tilde;
mod variables;
