//! The names of the slots of each optimiser.

/// With and without Nesterov's look ahead.
pub const SGD: &[&str] = &["momentum"];
pub const MUON: &[&str] = &["momentum"];
pub const ADAM: &[&str] = &["first_moment", "second_moment"];
