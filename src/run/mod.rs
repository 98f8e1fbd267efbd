//! A run from its first step to its last: the loop and what it keeps on disk.
//!
//! ```text
//!  pipeline ─► trainer ─► model::program ─► metrics ─► history ─► run_dir
//!                 │  schedule: the rate of each step     evaluate: after each epoch
//!                 ├► checkpoint (written on a thread of its own)
//!                 ├► stop (whether any process was asked to end)
//!                 └► observer (whoever shows the run, in show/)
//! ```

pub mod checkpoint;
pub mod evaluate;
pub mod history;
pub mod observer;
pub mod run_dir;
pub mod schedule;
pub mod step_log;
pub mod stop;
pub mod stopwatch;
pub mod trainer;
