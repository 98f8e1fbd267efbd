//! From the gradient of all weights to the next weights.
//!
//! ```text
//!  weights ───────┐
//!  slots ─────────┤                ┌─► next weights
//!  gradient ──────┼─► rule ────────┴─► next slots
//!  learning rate ─┤
//!  step count ────┘ where the rule needs it
//! ```
//!
//! A slot is an array beside the weights, as long as they are, that the optimiser keeps from step to
//! step. Another optimiser is another file here with a function like [`sgd()`], and a line below.

mod adam;
mod decay;
mod muon;
mod rule;
mod sgd;

pub use adam::adam;
pub use decay::decayed;
pub use muon::muon;
pub use rule::{Optimiser, Update, Updated};
pub use sgd::{nesterov, sgd};
