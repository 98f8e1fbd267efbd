//! What users see of a run, during it and afterwards.
//!
//! ```text
//!  run::observer ─┬─► progress (the terminal)
//!                 └─► live ─┬─► plot ◄──────── raster (bitmaps, fonts)
//!                           ├─► tensorboard ◄─ pictures
//!                           ├─► chrome_trace
//!                           └─► report (one page with all of it)
//! ```

mod chrome_trace;
pub mod live;
pub mod pictures;
pub mod plot;
pub mod progress;
pub mod raster;
pub mod report;
pub mod tensorboard;
