//! [`crate::step`] in a build that traces nothing.

use crate::error::{GraphError, Result};
use crate::model::Model;

/// A traced computation, of which there is none.
pub enum Computation {}

/// `computation` as a serialised `HloModuleProto`.
pub fn to_bytes(computation: &Computation) -> Result<Vec<u8>> {
    match *computation {}
}

/// # Errors
/// [`GraphError::NoTracing`].
pub fn train_step(_: &Model) -> Result<Computation> {
    Err(GraphError::NoTracing)
}

/// # Errors
/// [`GraphError::NoTracing`].
pub fn eval_step(_: &Model) -> Result<Computation> {
    Err(GraphError::NoTracing)
}

/// # Errors
/// [`GraphError::NoTracing`].
pub fn predict_step(_: &Model) -> Result<Computation> {
    Err(GraphError::NoTracing)
}
