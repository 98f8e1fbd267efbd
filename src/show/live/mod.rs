//! The outputs that are updated during a run, one observer per file.
//!
//! ```text
//!  run::trainer ── epoch_end ──┬─► curves  plots/accuracy, plots/loss
//!                              ├─► events  TensorBoard's event file
//!                              └─► page    report.html
//! ```

mod curves;
mod events;
mod page;

pub use curves::Curves;
pub use events::Events;
pub use page::Page;
