//! The outputs that are updated during a run, one observer per file.
//!
//! ```text
//!  run::trainer ── epoch_end ──┬─► curves  plots/accuracy, plots/loss
//!               │              ├─► events  TensorBoard's event file
//!               │              └─► page    report.html
//!               └─ span ───────► profile   profile.json, and what TensorBoard's profile plugin reads
//! ```

mod curves;
mod events;
mod page;
mod profile;

pub use curves::Curves;
pub use events::Events;
pub use page::Page;
pub use profile::Profile;
