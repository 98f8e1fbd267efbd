//! What each kernel is told, as a struct and as the numbers of an s32 vector.
//!
//! ```text
//!  | magic | version | kernel | length | fields of the plan, in the order of `write` and `read` |
//!  '------------- header -------------'
//! ```

mod fields;
mod layers;
mod others;
#[cfg(test)]
mod tests;

pub use fields::{BehindNorm, Norm, Start};
pub use layers::{LayerBackward, LayerForward, OutputGradient};
pub use others::{NormBackward, Part, Unwritten};

pub use crate::codec::{Plan, length};
pub use crate::kernel::{HEADER, MAGIC, VERSION};
