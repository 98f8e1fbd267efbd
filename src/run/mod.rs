//! A run from its first step to its last: the loop and what it keeps on disk.
//!
//! ```text
//!  pipeline ─► trainer ─► model::program ─► metrics ─► history ─► run_dir
//!                 │  schedule: the rate of each step      evaluate: after each epoch
//!                 └► checkpoint (written behind the loop's back)   progress (the terminal)
//! ```

pub mod checkpoint;
pub mod evaluate;
pub mod history;
pub mod progress;
pub mod run_dir;
pub mod schedule;
pub mod trainer;
