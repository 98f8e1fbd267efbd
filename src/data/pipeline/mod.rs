//! From images in memory to batches on time.
//!
//! ```text
//!  order (which image comes when) ─► batches ─► augment + normalise ─► prefetch ─► the loop
//!  random: numbers of (seed, epoch, index) alone, so any thread makes the same batch
//! ```

pub mod augment;
pub mod batches;
pub mod normalization;
pub mod order;
pub mod prefetch;
pub mod random;
