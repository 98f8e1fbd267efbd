//! The machine and the process: files that are whole or not there, locks, signals, memory, the log.
//!
//! Every other room may use this one. It knows nothing of data or runs; of networks, only which numbers make one
//! (`limits`).
//!
//! ```text
//!  signals ──► process ◄── logger ──► stderr, train.log
//!  files (written beside their place, synced, renamed)      lock (one owner a folder)
//!  memory, rehearsal: what the C library is told         proc ─► env_info: what the system says
//!  watch: other processes that this one works with
//!  text, sha256, limits: checks and forms that every room shares      embedded: files inside the program
//! ```

pub mod embedded;
pub mod env_info;
pub mod files;
pub mod limits;
pub mod lock;
pub mod logger;
pub mod mapped;
pub mod memory;
pub mod proc;
pub mod process;
pub mod rehearsal;
pub mod sha256;
pub mod signals;
pub mod text;
pub mod user_cache;
pub mod watch;
