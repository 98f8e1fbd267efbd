//! What logits are worth: classes by probability, and counts of what is right and wrong.
//!
//! ```text
//!  logits ─► ranking (classes by falling probability) ─► scores (confusion, top-5, mistakes)
//! ```

pub mod ranking;
pub mod scores;
