//! [`crate::step`] in a build that traces nothing.

use crate::error::{GraphError, Result};
use crate::model::Model;

/// # Errors
/// [`GraphError::NoTracing`].
pub fn train_step(_: &Model) -> Result<Vec<u8>> {
    Err(GraphError::NoTracing)
}

/// # Errors
/// [`GraphError::NoTracing`].
pub fn eval_step(_: &Model) -> Result<Vec<u8>> {
    Err(GraphError::NoTracing)
}

/// # Errors
/// [`GraphError::NoTracing`].
pub fn predict_step(_: &Model) -> Result<Vec<u8>> {
    Err(GraphError::NoTracing)
}
