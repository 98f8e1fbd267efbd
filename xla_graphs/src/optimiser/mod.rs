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
//! step; `slots` has all their names. Another optimiser is another file here with a function like [`sgd()`], a line
//! below, and one in `absent`, which has the optimisers of a build that traces nothing.

#[cfg(not(feature = "trace"))]
mod absent;
#[cfg(feature = "trace")]
mod adam;
#[cfg(feature = "trace")]
mod decay;
#[cfg(feature = "trace")]
mod muon;
#[cfg(feature = "trace")]
mod rule;
#[cfg(feature = "trace")]
mod sgd;
mod slots;

#[cfg(not(feature = "trace"))]
pub use absent::{Optimiser, adam, muon, nesterov, sgd};
#[cfg(feature = "trace")]
pub use {
    adam::adam,
    decay::decayed,
    muon::muon,
    rule::{Optimiser, Update, Updated},
    sgd::{nesterov, sgd},
};
