//! What users see of a run, during it and afterwards.
//!
//! ```text
//!  run::observer ─┬─► progress (the terminal)
//!                 └─► live ─┬─► plot ◄──────── raster (bitmaps, fonts)
//!                           ├─► tensorboard ◄─ pictures
//!                           └─► report (one page with all of it)
//! ```

pub mod live;
pub mod pictures;
pub mod plot;
pub mod progress;
pub mod raster;
pub mod report;
pub mod tensorboard;
