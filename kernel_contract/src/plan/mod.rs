//! What each kernel is told, as a struct and as the numbers of an s32 array.
//!
//! ```text
//!  | magic | version | kernel | length | fields of the plan, in the order of `write` and `read` |
//!  '------------- header -------------'
//! ```

mod fields;
mod inference;
mod layers;
mod others;
#[cfg(test)]
mod tests;

pub use fields::{BehindNorm, Norm, Row, Start};
pub use inference::{Added, Inference, InferenceLayer, Stem};
pub use layers::{LayerBackward, LayerForward, OutputGradient};
pub use others::{NormBackward, Unwritten};

pub use crate::codec::Plan;
pub use crate::kernel::{HEADER, MAGIC, VERSION};
