//! What a run leaves for people to look at.
//!
//! ```text
//!  history ──► plot ─────────┐
//!  scores ───► pictures ─────┼─► report.html
//!  metrics ──► tensorboard   │
//!  raster: bitmaps and fonts ┘     reporter: brings all of it up to date, once an epoch
//! ```

pub mod pictures;
pub mod plot;
mod raster;
pub mod report;
pub mod reporter;
pub mod tensorboard;
