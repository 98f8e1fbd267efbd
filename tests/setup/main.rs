//! The `setup` script: what it says when something is missing, and that it heals what was interrupted.
//!
//! Each test runs a copy of the script in a folder of its own (`checkout`), with its own cache and a `PATH` that holds just
//! the tools named there. In place of the registry stands `registry`.

mod bound;
mod cache;
mod calls;
mod checkout;
mod downloads;
#[path = "../program/executable.rs"]
mod executable;
mod locks;
mod machine;
mod pip_settings;
mod python;
mod ran;
mod registry;
mod results;
mod shell;
