//! What is kept up to date while a run goes on, an observer a file.
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
