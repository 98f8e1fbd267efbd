//! The machine and the process: files that are whole or not there, locks, signals, memory, the log.
//!
//! Knows nothing of networks, data or runs; every other room may use it.
//!
//! ```text
//!  signals ──► process ◄── logger ──► stderr, train.log
//!  files (written beside their place, synced, renamed)      lock (one owner a folder)
//!  memory, rehearsal, env_info: what the C library and the system say and take
//! ```

pub mod env_info;
pub mod files;
pub mod limits;
pub mod lock;
pub mod logger;
pub mod memory;
pub mod proc;
pub mod process;
pub mod rehearsal;
pub mod sha256;
pub mod signals;
pub mod text;
