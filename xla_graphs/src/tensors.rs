//! Tensors of one computation, by name.

use std::collections::BTreeMap;

use xla::XlaOp;

use crate::{GraphError, Result};

/// Graph values by tensor name: parameters on the way in, gradients or new values on the way out.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, XlaOp>);

impl Tensors {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` under `name`, in place of an earlier one.
    pub fn insert(&mut self, name: impl Into<String>, value: XlaOp) {
        self.0.insert(name.into(), value);
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn get(&self, name: &str) -> Result<&XlaOp> {
        self.0.get(name).ok_or_else(|| GraphError::MissingTensor {
            name: name.to_owned(),
            known: self.0.len(),
        })
    }

    /// Names and values, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &XlaOp)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}
